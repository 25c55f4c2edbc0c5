// Any bytes as a config.json: read, or refused with an Error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/base/settings.h"
#include "brood/model/public_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brood;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const nlohmann::json config = import_config_text(text, "fuzz");
    BROOD_ASSERT(shown(config).size() <= 60);
    Settings settings(config, "fuzz");
    const std::string architecture = settings.text("architecture", "mamba");
    const int64_t d_model = settings.integer("d_model", 128, 1, 1 << 16);
    const double dropout = settings.number("dropout", 0, 0, 0.95);
    const bool tied = settings.flag("tie_embeddings", true);
    const std::string sparse = settings.choice("sparse", "auto", {"auto", "always", "never"});
    // What was let through lies within what was asked for, and reads back as itself.
    BROOD_ASSERT(d_model >= 1 && d_model <= 1 << 16 && dropout >= 0 && dropout <= 0.95);
    Settings again = Settings::parse(settings.effective().dump(), "fuzz");
    BROOD_ASSERT(again.text("architecture", "") == architecture);
    BROOD_ASSERT(again.integer("d_model", 0, 1, 1 << 16) == d_model);
    BROOD_ASSERT(again.number("dropout", 9, 0, 1) == dropout);
    BROOD_ASSERT(again.flag("tie_embeddings", !tied) == tied);
    BROOD_ASSERT(again.choice("sparse", "", {"auto", "always", "never"}) == sparse);
    settings.finish();
  } catch (const Error&) {
  }
  return 0;
}
