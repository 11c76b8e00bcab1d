#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "control/cli/grammar.h"
#include "control/cli/link.h"
#include "control/cli/output.h"

namespace sallyport::cli {

/// `capture read` and `support read`: a file that control sends in parts, to stdout or to a file by `| save`. Octets as they are: not to a terminal.
int fetch(Link& link, const Output& output, const Parsed& parsed);

/// Base64 (RFC 4648 4), padded; the error when it is not.
[[nodiscard]] std::expected<std::string, std::string> from_base64(std::string_view text);

}  // namespace sallyport::cli
