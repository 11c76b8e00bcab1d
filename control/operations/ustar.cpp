#include "control/operations/ustar.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

constexpr std::size_t kBlock = 512;

/// Where the fields of a header stand.
struct Field {
    std::size_t offset, length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kTime{136, 12}, kChecksum{148, 8}, kType{156, 1},
    kMagic{257, 6}, kVersion{263, 2}, kUser{265, 32}, kGroup{297, 32};

void put(std::array<char, kBlock>& header, Field field, std::string_view text) {
    SALLYPORT_CHECK(text.size() <= field.length);
    std::ranges::copy(text, header.begin() + static_cast<std::ptrdiff_t>(field.offset));
}

/// Octal digits and a zero octet fill the field.
void put_number(std::array<char, kBlock>& header, Field field, std::uint64_t number) {
    put(header, field, sallyport::format("{:0{}o}", number, field.length - 1));
}

}  // namespace

void Ustar::add(std::string_view name, std::string_view contents) {
    std::array<char, kBlock> header{};
    put(header, kName, name);
    put_number(header, kMode, 0600);
    put_number(header, kUid, 0);
    put_number(header, kGid, 0);
    put_number(header, kSize, contents.size());
    put_number(header, kTime, static_cast<std::uint64_t>(std::chrono::system_clock::to_time_t(now_)));
    put(header, kType, "0");
    put(header, kMagic, std::string_view("ustar\0", 6));
    put(header, kVersion, "00");
    put(header, kUser, "root");
    put(header, kGroup, "root");
    put(header, kChecksum, "        ");   // counts as spaces in its own sum
    std::uint64_t sum = 0;
    for (const char octet : header) sum += static_cast<unsigned char>(octet);
    put(header, kChecksum, sallyport::format("{:06o}", sum) + std::string("\0 ", 2));
    octets_.append(header.data(), header.size());
    octets_ += contents;
    octets_.append((kBlock - contents.size() % kBlock) % kBlock, '\0');
    names_.emplace_back(name);
}

std::string Ustar::finish() && {
    octets_.append(2 * kBlock, '\0');
    return std::move(octets_);
}

}  // namespace sallyport::operations
