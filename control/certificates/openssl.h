#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

/// OpenSSL's objects as owners that free themselves. Header only but for error_queue(): the libssl types cost nothing
/// to a program that links libcrypto alone.
namespace sallyport::openssl {

template <auto Free>
struct Deleter {
    template <typename Object>
    void operator()(Object* object) const noexcept {
        static_cast<void>(Free(object));
    }
};

template <typename Object, auto Free>
using Owner = std::unique_ptr<Object, Deleter<Free>>;

using Bio = Owner<BIO, BIO_free_all>;
using PrivateKey = Owner<EVP_PKEY, EVP_PKEY_free>;
using KeyContext = Owner<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using Certificate = Owner<X509, X509_free>;
using Extension = Owner<X509_EXTENSION, X509_EXTENSION_free>;
using Store = Owner<X509_STORE, X509_STORE_free>;
using StoreContext = Owner<X509_STORE_CTX, X509_STORE_CTX_free>;
using GeneralNames = Owner<GENERAL_NAMES, GENERAL_NAMES_free>;
using Context = Owner<SSL_CTX, SSL_CTX_free>;
using Connection = Owner<SSL, SSL_free>;
using Session = Owner<SSL_SESSION, SSL_SESSION_free>;

/// Another owner of the same object.
[[nodiscard]] inline Certificate share(X509* certificate) noexcept {
    X509_up_ref(certificate);
    return Certificate(certificate);
}
[[nodiscard]] inline PrivateKey share(EVP_PKEY* key) noexcept {
    EVP_PKEY_up_ref(key);
    return PrivateKey(key);
}

/// Empties this thread's error queue into one line, the oldest (the cause) first, such as
/// "bad decrypt (Provider routines); no start line (PEM routines)". "no reason given" when it is empty.
[[nodiscard]] std::string error_queue();

/// An X.509 name in RFC 2253 form, control characters and non-ASCII escaped: fit for a log.
[[nodiscard]] std::string name_text(const X509_NAME* name);

}  // namespace sallyport::openssl
