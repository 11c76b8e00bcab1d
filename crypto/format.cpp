#include "crypto/format.h"

namespace sallyport {

std::string formatted(std::string_view format, std::format_args arguments) { return std::vformat(format, arguments); }

}  // namespace sallyport
