#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "control/certificates/pem_file.h"

/// Making of keys and of requests to certification authorities. Any thread; blocks on the file system.
namespace sallyport::certificates {

/// The types that new_key() makes.
[[nodiscard]] const std::vector<std::string>& key_types();

/// Makes a private key of one of key_types() and writes it (PKCS #8, PEM, mode 0600) to a file that must not exist.
[[nodiscard]] std::expected<void, std::string> new_key(const std::string& type, const std::filesystem::path& file);

/// Writes a certification request (PKCS #10, RFC 2986, PEM) for DNS names or IP addresses, signed with the key, to a file that must not
/// exist. `must_staple` asks for the TLS feature status_request (RFC 7633).
[[nodiscard]] std::expected<void, std::string> new_request(const std::filesystem::path& key, const KeyAccess& access, const std::vector<std::string>& names,
                                                           bool must_staple, const std::filesystem::path& file);

}  // namespace sallyport::certificates
