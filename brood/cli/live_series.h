// brood live --as series: the rows of a table, forecast and learnt.
#pragma once

#include <memory>
#include <string>

#include "brood/cli/verb.h"

namespace CLI {
class App;
}

namespace brood::cli {

// What live's other options say.
struct SeriesStream {
  std::string in, model, save;  // model: a folder to go on from; empty: begin anew
  bool overwrite = false;
  double save_every = 60;
};

// The options of --as series, and what is done with them.
class SeriesVerb {
 public:
  explicit SeriesVerb(CLI::App& app);
  bool wanted() const;  // after parsing
  int run(const SeriesStream& stream, const Common& common) const;

  struct Options;

 private:
  CLI::App& app_;
  std::shared_ptr<Options> options_;
};

}  // namespace brood::cli
