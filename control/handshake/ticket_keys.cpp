#include "control/handshake/ticket_keys.h"

#include <algorithm>
#include <stdexcept>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

namespace sallyport::handshake {
namespace {

void random_secret(crypto::Secret<32>& secret) {
    std::array<std::byte, 32> octets;
    if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(octets.data()), static_cast<int>(octets.size())) != 1)
        throw std::runtime_error("libcrypto has no random octets for ticket keys: " + openssl::error_queue());
    secret.assign(octets);
    crypto::wipe(octets.data(), octets.size());
}

const unsigned char* raw(const crypto::Secret<32>& secret) {
    return reinterpret_cast<const unsigned char*>(secret.octets().data());
}

}  // namespace

TicketKeys::TicketKeys(Clock clock) : clock_(std::move(clock)), cipher_(EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr)) {
    if (!cipher_) throw std::runtime_error("libcrypto has no AES-256-CBC for session tickets: " + openssl::error_queue());
    keys_.reserve(kOldKeys + 2);  // so that no growth leaves copies of keys behind
    keys_.push_back(make());
    keys_.front().made = clock_();
}

TicketKeys::Key TicketKeys::make() const {
    Key key;
    if (RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) != 1)
        throw std::runtime_error("libcrypto has no random octets for ticket keys: " + openssl::error_queue());
    random_secret(key.cipher);
    random_secret(key.mac);
    return key;
}

void TicketKeys::rotate() {
    const std::scoped_lock lock(mutex_);
    rotate_locked();
}

void TicketKeys::rotate_locked() {
    const auto now = clock_();
    const auto periods = (now - keys_.front().made) / kPeriod;
    if (periods <= 0) return;
    Key key = make();
    key.made = keys_.front().made + periods * kPeriod;
    // By age, not by number: a period that passed unused made no key.
    std::erase_if(keys_, [&](const Key& old) { return now - old.made >= (kOldKeys + 1) * kPeriod; });
    keys_.insert(keys_.begin(), key);
}

bool TicketKeys::set_mac(EVP_MAC_CTX* mac, const Key& key) {
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<unsigned char*>(raw(key.mac)), key.mac.octets().size()),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

int TicketKeys::seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) try {
    const std::scoped_lock lock(mutex_);
    rotate_locked();
    const Key& key = keys_.front();
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(cipher_.get())) != 1) return -1;
    std::ranges::copy(key.name, name);
    if (EVP_EncryptInit_ex2(cipher, cipher_.get(), raw(key.cipher), iv, nullptr) != 1 || !set_mac(mac, key)) return -1;
    return 1;
} catch (const std::exception&) {  // no exception may pass through libssl
    return -1;
}

int TicketKeys::open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) try {
    const std::scoped_lock lock(mutex_);
    rotate_locked();
    const auto key = std::ranges::find_if(keys_, [&](const Key& candidate) { return std::equal(candidate.name.begin(), candidate.name.end(), name); });
    if (key == keys_.end()) return 0;
    if (EVP_DecryptInit_ex2(cipher, cipher_.get(), raw(key->cipher), iv, nullptr) != 1 || !set_mac(mac, *key)) return -1;
    return key == keys_.begin() ? 1 : 2;
} catch (const std::exception&) {
    return -1;
}

std::size_t TicketKeys::count() const {
    const std::scoped_lock lock(mutex_);
    return keys_.size();
}

std::shared_ptr<TicketKeys> make_ticket_keys(const configuration::Tickets& /*settings*/) { return std::make_shared<TicketKeys>(); }

}  // namespace sallyport::handshake
