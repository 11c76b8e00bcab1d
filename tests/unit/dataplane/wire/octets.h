#pragma once

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sallyport::test {

/// "45 00 0028" as octets; anything that is no hexadecimal digit is passed over.
inline std::vector<std::byte> octets(std::string_view hex) {
    std::vector<std::byte> result;
    int high = -1;
    for (const char c : hex) {
        if (std::isxdigit(static_cast<unsigned char>(c)) == 0) continue;
        const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
        if (high < 0) {
            high = digit;
            continue;
        }
        result.push_back(static_cast<std::byte>(high << 4 | digit));
        high = -1;
    }
    return result;
}

}  // namespace sallyport::test
