// A comparison (comparison.h) as tables for a terminal and as a page for a browser. Models that have not been
// trained to their end are left out.
#pragma once

#include <string>
#include <vector>

#include "brood/learn/comparison.h"

namespace brood {

struct ReportTable {
  std::string title;                           // empty for the first, which is about the models themselves
  std::vector<std::vector<std::string>> rows;  // the first one heads the columns
};
std::vector<ReportTable> comparison_tables(const Comparison& comparison);

// Tables and claims for a terminal.
std::string comparison_text(const Comparison& comparison);

// Whether there is anything to report.
bool has_results(const Comparison& comparison);
bool is_reported(const ComparedModel& model);

// In words: what was done, and what the columns mean.
std::string comparison_summary(const Comparison& comparison);

// One HTML page that needs nothing but itself: tables, claims, courses of learning, speeds and states.
std::string comparison_page(const Comparison& comparison);

}  // namespace brood
