#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "control/certificates/openssl.h"

/// Certificates and keys for tests, made at run time. CHECKs (aborts) when the library refuses.
namespace sallyport::test {

enum class Key { rsa1024, rsa2048, rsa3072, p256, p384, p521, p224, ed25519 };

struct CertificateOptions {
    Key key = Key::p256;
    std::string common_name = "test";
    std::vector<std::string> names{};               ///< subjectAltName: DNS names, IP or mail addresses, URIs
    bool ca = false;                                ///< basicConstraints CA and keyUsage keyCertSign
    std::string extended_key_usage = "serverAuth";  ///< as in openssl.cnf; empty: none; not for a CA
    int not_before_days = -1;                       ///< from now
    int not_after_days = 30;
    std::string digest = "SHA256";  ///< of the signature; ignored with an Ed25519 signer
    std::vector<std::pair<int, std::string>> extensions{};  ///< further ones: NID and value as in openssl.cnf
};

/// A certificate with its key and those that signed it.
struct Identity {
    openssl::Certificate certificate;
    openssl::PrivateKey key;
    std::vector<openssl::Certificate> chain;  ///< intermediates up to, without, the root

    [[nodiscard]] std::string certificate_pem() const;  ///< leaf, then chain
    [[nodiscard]] std::string key_pem() const;          ///< PKCS #8, not encrypted
    /// Writes DIRECTORY/NAME.pem and DIRECTORY/NAME.key (mode 0600).
    void write(const std::filesystem::path& directory, const std::string& name) const;
};

[[nodiscard]] openssl::PrivateKey make_key(Key key);
/// Signed by `issuer`, or by itself when that is nullptr.
[[nodiscard]] Identity make_identity(const CertificateOptions& options, const Identity* issuer = nullptr);
/// Shorthand: a CA named `common_name`; a leaf for `names`.
[[nodiscard]] Identity make_ca(const std::string& common_name, const Identity* issuer = nullptr, Key key = Key::p256);
[[nodiscard]] Identity make_leaf(const std::vector<std::string>& names, const Identity& issuer, Key key = Key::p256);

/// A directory below the system's temporary one, removed with all that is in it when this goes.
class TemporaryDirectory {
 public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    /// Writes a file in it and returns its path.
    std::filesystem::path write(const std::string& name, const std::string& text, unsigned mode = 0644) const;

 private:
    std::filesystem::path path_;
};

}  // namespace sallyport::test
