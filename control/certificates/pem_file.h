#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "control/certificates/openssl.h"

namespace sallyport::certificates {

/// What is wrong with a file and what would be right.
struct FileError {
    std::string wrong, right;
};

/// All certificates of a PEM file, in order; other blocks are passed over. At least one, or an error.
[[nodiscard]] std::expected<std::vector<openssl::Certificate>, FileError> read_certificates(
    const std::filesystem::path& file);

/// The private key of a PEM file, which nobody but its owner may read or write. Encrypted keys are refused. What was
/// read is wiped.
[[nodiscard]] std::expected<openssl::PrivateKey, FileError> read_private_key(const std::filesystem::path& file);

}  // namespace sallyport::certificates
