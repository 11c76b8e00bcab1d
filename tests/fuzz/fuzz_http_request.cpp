// Whatever comes to a redirect, however it is split: the answer is one of two heads, the redirect leads to https and a host that was checked,
// and no octet of the request breaks a line of it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "control/http/redirect.h"
#include "crypto/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sallyport::http;
    using Outcome = RedirectReader::Outcome;
    const auto octets = std::as_bytes(std::span(data, size));
    RedirectReader whole, split;
    const Outcome outcome = whole.feed(octets);
    Outcome other = Outcome::more;
    const std::size_t step = size == 0 ? 1 : 1 + data[0] % 7;
    for (std::size_t at = 0; at < size; at += step) other = split.feed(octets.subspan(at, std::min(step, size - at)));
    SALLYPORT_CHECK(other == outcome && split.location() == whole.location());
    if (outcome == Outcome::more) {
        SALLYPORT_CHECK(size < kMaxHead);
        return 0;
    }
    const std::string answer = whole.answer({});
    SALLYPORT_CHECK(answer.find("\r\n\r\n") == answer.size() - 4);
    SALLYPORT_CHECK(answer.starts_with(outcome == Outcome::redirect ? "HTTP/1.1 308 " : "HTTP/1.1 400 "));
    if (outcome == Outcome::refuse) {
        SALLYPORT_CHECK(whole.location().empty() && !whole.why().empty());
        return 0;
    }
    const std::string& location = whole.location();
    SALLYPORT_CHECK(location.starts_with("https://"));
    SALLYPORT_CHECK(std::ranges::all_of(location, [](char c) { return c > ' ' && c < 127; }));
    const std::string_view authority = std::string_view(location).substr(8, location.find('/', 8) - 8);
    SALLYPORT_CHECK(host_of(authority) == authority);
    return 0;
}
