#pragma once

#include "control/configuration/document.h"

namespace sallyport::configuration {

/// libconfig's grammar over a text. The root's `end` is where settings may be added at the latest: before a comment or
/// a string that nothing closes (libconfig takes those at the end of a text).
[[nodiscard]] std::expected<Document::Node, Problem> parse_document(std::string_view text, const std::string& file);

}  // namespace sallyport::configuration
