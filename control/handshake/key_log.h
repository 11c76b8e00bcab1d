#pragma once

#include <string>
#include <string_view>

#include "crypto/secret.h"

namespace sallyport::handshake {

/// What a handshake's secrets are, in the lines of the NSS key log format that open a capture (RFC 9850): those of the handshake and of the
/// first application traffic of TLS 1.3, the master secret of 1.2. Kept only where a capture asked for it; wiped when it goes. One thread.
class KeyLog {
 public:
    KeyLog() { lines_.reserve(kMost); }   // so that no copy is left behind by growth
    ~KeyLog() { clear(); }
    KeyLog(const KeyLog&) = delete;
    KeyLog& operator=(const KeyLog&) = delete;

    /// Takes one line of libssl's, without LF, if it is of use.
    void add(std::string_view line) {
        constexpr std::string_view kLabels[] = {"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ", "CLIENT_TRAFFIC_SECRET_0 ",
                                                "SERVER_TRAFFIC_SECRET_0 ", "CLIENT_RANDOM "};
        bool wanted = false;
        for (const std::string_view label : kLabels) wanted = wanted || line.starts_with(label);
        if (!wanted || lines_.size() + line.size() + 1 > kMost) return;
        lines_ += line;
        lines_ += '\n';
    }
    [[nodiscard]] std::string_view lines() const noexcept { return lines_; }
    void clear() noexcept {
        crypto::wipe(lines_.data(), lines_.size());
        lines_.clear();
    }

 private:
    static constexpr std::size_t kMost = 1024;   // four lines of at most 194 octets in TLS 1.3, one of 177 in 1.2
    std::string lines_;
};

}  // namespace sallyport::handshake
