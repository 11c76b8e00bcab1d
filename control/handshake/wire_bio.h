#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <openssl/bio.h>

namespace sallyport::handshake {

/// Both ends of an SSL object's transport as one BIO: it reads what is borrowed to it and appends to a vector what is written. What is not there means
/// 'not yet', never 'closed'. Cheaper than a pair of memory BIOs: no copy of what comes, nothing allocated before something is written.
/// Used by one thread; outlives the SSL object that has its BIO.
class WireBio {
 public:
    WireBio() = default;
    WireBio(const WireBio&) = delete;
    WireBio& operator=(const WireBio&) = delete;

    /// The BIO, a new reference for who takes it (SSL_set_bio). nullptr: out of memory.
    [[nodiscard]] BIO* make();
    /// What can be read from now on, borrowed until it has been read or replaced. What had not been read is forgotten.
    void give(std::span<const std::byte> octets) noexcept { in_ = octets; }
    /// Octets of that which have not been read.
    [[nodiscard]] std::size_t unread() const noexcept { return in_.size(); }
    /// What has been written since clear().
    [[nodiscard]] std::span<const std::byte> written() const noexcept { return out_; }
    void clear() noexcept { out_.clear(); }

 private:
    static const BIO_METHOD* method();

    std::span<const std::byte> in_;
    std::vector<std::byte> out_;
};

}  // namespace sallyport::handshake
