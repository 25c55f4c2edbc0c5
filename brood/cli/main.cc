// The program: a table of verbs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <iterator>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/threads.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"

namespace brood::cli {
namespace {

struct Verb {
  const char* name;
  const char* purpose;
  Define define;
};

constexpr Verb kVerbs[] = {
    {"live", "read a stream, predict each byte, learn from it at once", define_live},
    {"train", "learn from a fixed text in batches", define_train},
    {"eval", "bits per byte of a text under a model", define_eval},
    {"talk", "let a model write, or talk with it", define_talk},
    {"compare", "several models side by side: learning, speed, memory", define_compare},
    {"tasks", "synthetic tasks: what can a model learn to remember and to count?", define_tasks},
    {"speed", "tokens per second, beside this machine's limit", define_speed},
    {"state", "what a model remembers, as a file: save, load, fork, diff, size", define_state},
    {"merge", "one model out of several", define_merge},
    {"pack", "compress a file without loss, by learning it", define_pack},
    {"unpack", "the file again", define_unpack},
    {"info", "what a model is, and what this machine runs it with", define_info},
};

constexpr const char* kMainExamples =
    "Examples:\n"
    "  brood live --model mamba-s --in book.txt --save book     learn a book, byte by byte\n"
    "  brood talk book --prompt 'Once '                         let it write\n"
    "  brood live --model book --in news.txt --save book        go on learning\n"
    "  brood VERB --help                                        every option of a verb, with examples\n"
    "Exit codes: 0 done; 2 what was asked for cannot be; 1 it went wrong on the way (a full disk, a run "
    "that\n"
    "diverged); 128 and the signal's number: interrupted, with what was learnt saved.\n";

void add_common(CLI::App& verb, Common& common) {
  verb.add_option("--threads", common.threads, "threads that compute (results do not depend on it)")
      ->check(whole(1, 1024))
      ->type_name("N");
  verb.add_option("--seed", common.seed, "seed of everything random")
      ->capture_default_str()
      ->check(whole(0, std::numeric_limits<int64_t>::max()))
      ->type_name("N");
  verb.add_flag("--json", common.json, "print the result as one line of JSON on standard output");
}

int parse_failed(const CLI::App& program, const CLI::ParseError& error) {
  const auto verbs = program.get_subcommands();
  const std::string name = verbs.empty() ? "brood" : "brood " + verbs.front()->get_name();
  std::string sentence = error.what();
  for (char& c : sentence) {
    if (c == '\n') c = ' ';
  }
  say(fmt::format("{}: {} ({} --help shows how)", name, sentence, name));
  return kUserError;
}

bool is_verb(const std::string& word) {
  return std::any_of(std::begin(kVerbs), std::end(kVerbs),
                     [&](const Verb& verb) { return verb.name == word; });
}

int unknown_verb(const std::string& word) {
  std::string known;
  for (const Verb& verb : kVerbs) known += fmt::format("{}{}", known.empty() ? "" : ", ", verb.name);
  say(fmt::format("brood: there is no verb {}; there are {} (brood --help shows them)", word, known));
  return kUserError;
}

int act(const Action& action, const Common& common) {
  try {
    if (common.threads > 0) ThreadPool::instance().resize(common.threads);
    catch_interrupts();
    return action();
  } catch (const ClosedPipe&) {
    return 0;
  } catch (const std::bad_alloc&) {
    say("brood: this needs more memory than there is; try a smaller model, batch or context");
  } catch (const Failure& failure) {
    say(fmt::format("brood: {}", failure.what()));
  } catch (const Error& error) {
    say(fmt::format("brood: {}", error.what()));
    return kUserError;
  } catch (const std::exception& error) {
    say(fmt::format("brood: {}", error.what()));
  }
  return kFailure;
}

int run(int argc, char** argv) {
  CLI::App program{"brood: sequence models that live on a stream of bytes", "brood"};
  program.set_version_flag("--version", "brood " BROOD_VERSION);
  program.require_subcommand(1);
  program.get_formatter()->label("SUBCOMMAND", "VERB");
  program.get_formatter()->label("Subcommands", "Verbs");
  program.footer(kMainExamples);
  program.get_formatter()->column_width(34);

  Common common;
  std::vector<std::pair<CLI::App*, Action>> actions;
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = program.add_subcommand(verb.name, verb.purpose);
    actions.emplace_back(sub, verb.define(*sub, common));
    add_common(*sub, common);
  }
  if (argc < 2) {
    say(program.help());
    return kUserError;
  }
  if (argv[1][0] != '-' && !is_verb(argv[1])) return unknown_verb(argv[1]);
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return program.exit(asked, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    return parse_failed(program, error);
  }
  for (const auto& [sub, action] : actions) {
    if (sub->parsed()) return act(action, common);
  }
  return kUserError;
}

}  // namespace
}  // namespace brood::cli

int main(int argc, char** argv) { return brood::cli::run(argc, argv); }
