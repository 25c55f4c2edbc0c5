// The folder of --save, looked at before any work is done.
#pragma once

#include <string>

namespace brood::cli {

// Throws Error when `folder` holds a model that a save would replace by another one: `source` is what the
// model to be saved was loaded from, `go_on` the option that learns on with the model that is there. Throws
// also when nothing can be written there. An empty name is no folder and always right.
void check_save_folder(const std::string& folder, const std::string& source, bool overwrite,
                       const std::string& go_on);

}  // namespace brood::cli
