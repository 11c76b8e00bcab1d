#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tests/bench/generator/generator.h"

namespace sallyport::generator {

/// All of a result, for programs. Latencies are in nanoseconds.
[[nodiscard]] nlohmann::json report(const Generator& generator, const Result& result);
/// The same for people.
[[nodiscard]] std::string table(const nlohmann::json& report);
/// Whether nothing was mismatched, and no more failed than the options allow. `why` says what was wrong.
[[nodiscard]] bool good(const nlohmann::json& report, std::string& why);

}  // namespace sallyport::generator
