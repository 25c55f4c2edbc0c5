#include "brood/cli/save_folder.h"

#include <filesystem>

#include "brood/base/directories.h"
#include "brood/base/error.h"
#include "brood/learn/kept.h"
#include "brood/model/directory.h"

namespace brood::cli {

CLI::Option* add_save(CLI::App& app, std::string& folder, const char* purpose) {
  const auto named = [](const std::string& name) {
    return name.empty() ? std::string("must be the name of a folder, but is empty") : std::string();
  };
  return app.add_option("--save", folder, purpose)->check(named)->type_name("DIR");
}

void check_save_folder(const std::string& folder, const std::string& source, bool overwrite,
                       const std::string& go_on) {
  if (folder.empty()) return;
  require_room_for(Kept::kModel, folder);
  make_directories(FileSystem::real(), folder);
  std::error_code absent;
  const bool same = std::filesystem::equivalent(folder, source, absent);
  if (!same && !overwrite && holds_model(folder)) {
    fail("saving to {}: it already holds a model; go on with {}, or start over with --overwrite", folder,
         go_on);
  }
  check_writable(folder);
}

}  // namespace brood::cli
