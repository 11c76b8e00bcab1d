#pragma once

#include <string>

namespace sallyport::revocation {

/// What is wrong with an URL that revocation data is to come from; empty: nothing. Plain http only (what comes is signed; the one exception
/// of 9.2.2 (12.3.1)), a host, no userinfo, printable ASCII (nothing that could end a line of the request). Any thread.
[[nodiscard]] std::string check_url(const std::string& url);

/// "HOST:PORT" of an URL that check_url likes; else empty.
[[nodiscard]] std::string host_of(const std::string& url);

}  // namespace sallyport::revocation
