// brood live --as series: the rows of a table, forecast and learnt.
#pragma once

#include <memory>
#include <string>

#include "brood/cli/live_bytes.h"
#include "brood/cli/series_run.h"
#include "brood/cli/verb.h"

namespace CLI {
class App;
}

namespace brood::cli {

// The options of --as series, and what is done with them.
class SeriesVerb {
 public:
  explicit SeriesVerb(CLI::App& app);
  bool wanted() const;  // after parsing, as is what follows
  const std::string& as() const { return *as_; }
  const SeriesOptions& options() const { return *options_; }
  // in, model, save, … : what live's other options say.
  int run(const LiveOptions& live, const Common& common) const;

 private:
  void refuse_options() const;

  CLI::App& app_;
  std::shared_ptr<SeriesOptions> options_;
  std::shared_ptr<std::string> as_;
};

}  // namespace brood::cli
