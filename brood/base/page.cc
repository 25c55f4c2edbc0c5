#include "brood/base/page.h"

#include <fmt/format.h>

#include "brood/base/chart.h"

namespace brood {
namespace {

// Told apart on white and on black, also by most who do not see all colours (after Okabe and Ito 2008).
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1c; --faint: #8886;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #008f66; --series-3: #b8579a; --series-4: #b58900;
  --series-5: #3aa0d8; --series-6: #6b4fbb; --series-7: #8c564b; --series-8: #5f6b6d; --series-9: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171a; --ink: #e4e4e4;
  --series-0: #4aa8e8; --series-1: #ff8a3d; --series-2: #2ec79a; --series-3: #e59acb; --series-4: #f0c53c;
  --series-5: #8fd0f5; --series-6: #a994f0; --series-7: #c99a8e; --series-8: #a9b4b6; --series-9: #ff7b6b; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; }
p { max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; margin: 1rem 0;
  font-size: 14px; }
th, td { padding: .3rem .45rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td:last-child { white-space: normal; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
svg .title { font-size: 14px; font-weight: 600; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .mark { fill-opacity: .75; }
)";

}  // namespace

std::string html_page(const std::string& title, const std::string& summary, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n{3}</body>\n</html>\n",
      escape_html(title), kStyle, escape_html(summary), body);
}

}  // namespace brood
