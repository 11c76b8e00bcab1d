#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "control/certificates/openssl.h"
#include "control/certificates/passphrase.h"

namespace sallyport::certificates {

/// What is wrong with a file and what would be right.
struct FileError {
    std::string wrong, right;
};

/// All certificates of a PEM file, in order; other blocks are passed over. At least one, or an error.
[[nodiscard]] std::expected<std::vector<openssl::Certificate>, FileError> read_certificates(
    const std::filesystem::path& file);

/// Whose files keys are taken from: root's, our own, and of the user that the processes become.
struct KeyOwners {
    std::optional<std::uint32_t> user{};   ///< user id; nullopt: only the first two
};

/// How to come to a private key.
struct KeyAccess {
    KeyOwners owners{};
    std::filesystem::path passphrase{};   ///< file with it, its owner's alone, one line; empty: `ask`
    Ask ask{};                            ///< empty: nobody is there
};

/// The private key of a PEM file, which nobody but its owner may read or write. What was read is wiped.
[[nodiscard]] std::expected<openssl::PrivateKey, FileError> read_private_key(const std::filesystem::path& file,
                                                                             const KeyAccess& access = {});

/// Whether a file of random octets is there, long enough, and its owner's alone. It is read by whoever uses it.
[[nodiscard]] std::expected<void, FileError> check_secret(const std::filesystem::path& file, std::size_t least, const KeyOwners& owners);

/// Certificates and their private key.
struct Bundle {
    std::vector<openssl::Certificate> certificates;   ///< leaf first; of PKCS #12, put into order
    openssl::PrivateKey key;
};

/// Both from one file, PKCS #12 (RFC 7292) or PEM by its content, which nobody but its owner may read or write.
[[nodiscard]] std::expected<Bundle, FileError> read_bundle(const std::filesystem::path& file, const KeyAccess& access = {});

}  // namespace sallyport::certificates
