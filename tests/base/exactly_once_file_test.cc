#include "brood/base/exactly_once_file.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/fixture/memory_file_system.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

std::string line(int i) { return "line " + std::to_string(i * i) + "\n"; }

TEST(ExactlyOnceFile, GoesOnWhereTheSaveWas) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("out", "of somebody else");
  std::string wanted;
  for (int i = 0; i < 100; ++i) wanted += line(i);
  std::mt19937 random(1);
  int saved = 0;
  int64_t saved_bytes = 0;
  for (int kill = 0; kill < 20; ++kill) {  // each time some lines are written that no save knows of
    ExactlyOnceFile file(path, saved_bytes);
    const int next = saved + int(random() % 5), lost = int(random() % 5);
    for (int i = saved; i < next; ++i) file.append(line(i));
    file.sync();
    saved_bytes = file.bytes();
    for (int i = next; i < next + lost; ++i) file.append(line(i));
    saved = next;
  }
  ExactlyOnceFile file(path, saved_bytes);
  for (int i = saved; i < 100; ++i) file.append(line(i));
  EXPECT_EQ(scratch.read("out"), wanted);
}

TEST(ExactlyOnceFile, RefusesAFileThatOthersHaveShortened) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("out", "four");
  EXPECT_THROW(ExactlyOnceFile(path, 5), Error);
  EXPECT_THROW(ExactlyOnceFile(scratch / "none", 5), Error);
}

TEST(ExactlyOnceFile, WhatWasSyncedOutlivesThePower) {
  for (int64_t call = 0; call < 12; ++call) {
    MemoryFileSystem files;
    files.make_directory("/d");
    files.sync_directory("/");
    files.die_at(2 + call);
    int64_t promised = 0;
    try {
      ExactlyOnceFile file("/d/out", 0, files);
      for (int i = 0; i < 5; ++i) {
        file.append(line(i));
        file.sync();
        promised = file.bytes();
      }
    } catch (const Died&) {
    }
    for (MemoryFileSystem& disk : files.after_power_cut()) {
      if (promised == 0) continue;
      ASSERT_GE(int64_t(disk.read("/d/out").size()), promised);
      ExactlyOnceFile again("/d/out", promised, disk);
      EXPECT_EQ(int64_t(disk.read("/d/out").size()), promised);
    }
  }
}

}  // namespace
}  // namespace brood
