// Folders within folders.
#pragma once

#include <string>

#include "brood/base/file_system.h"

namespace brood {

// Makes a directory and those that it lies in, as far as they are not there; their names are on the disk then. Throws
// Error.
void make_directories(FileSystem& files, const std::string& path);

}  // namespace brood
