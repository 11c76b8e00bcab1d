#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace sallyport::cli {

/// A result for which no text of its own was written: arrays of objects as tables, objects as "name  value" lines, what is nested below
/// its name. Names ending in _ns are durations; those in octets or with octets_ are octets. Columns: what identifies comes first.
[[nodiscard]] std::string render_any(const nlohmann::json& result);

}  // namespace sallyport::cli
