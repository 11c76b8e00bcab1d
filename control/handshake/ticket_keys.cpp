#include "control/handshake/ticket_keys.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include "crypto/format.h"
#include "crypto/key_derivation.h"

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

TicketKeys::TicketKeys(Settings settings, Clock clock)
    : settings_(settings), clock_(std::move(clock)), cipher_(EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr)) {
    if (!cipher_) throw std::runtime_error("libcrypto has no AES-256-CBC for session tickets: " + openssl::error_queue());
    if (settings_.period <= std::chrono::seconds::zero()) throw std::runtime_error("the period of ticket keys is not positive");
    keys_.reserve(kOldKeys + 3);  // so that no growth leaves copies of keys behind
    if (settings_.secret.empty())
        keys_.push_back(make(clock_()));
    else
        rotate_derived(clock_());
}

TicketKeys::Key TicketKeys::make(std::chrono::system_clock::time_point made) const {
    Key key;
    if (RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) != 1)
        throw std::runtime_error("libcrypto has no random octets for ticket keys: " + openssl::error_queue());
    random_secret(key.cipher);
    random_secret(key.mac);
    key.made = made;
    return key;
}

TicketKeys::Key TicketKeys::derive(std::int64_t period) const {
    // HKDF-SHA256 (RFC 5869). The name of a key and both its secrets come from one output, cut in three.
    constexpr std::size_t kName = 16, kSecret = 32;
    const std::string info = sallyport::format("sallyport ticket key 1;{};{}", settings_.period.count(), period);
    std::array<std::byte, kName + 2 * kSecret> output{};
    using Kdf = openssl::Owner<EVP_KDF, EVP_KDF_free>;
    using KdfContext = openssl::Owner<EVP_KDF_CTX, EVP_KDF_CTX_free>;
    const Kdf hkdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    const KdfContext context(hkdf ? EVP_KDF_CTX_new(hkdf.get()) : nullptr);
    const auto secret = settings_.secret.octets();
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<std::byte*>(secret.data()), secret.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char*>(info.data()), info.size()), OSSL_PARAM_construct_end()};
    if (!context || EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(output.data()), output.size(), parameters) != 1)
        throw std::runtime_error("libcrypto cannot derive ticket keys: " + openssl::error_queue());
    Key key;
    const std::span all(output);
    std::ranges::transform(all.first(kName), key.name.begin(), [](std::byte octet) { return std::to_integer<unsigned char>(octet); });
    key.cipher.assign(all.subspan(kName, kSecret));
    key.mac.assign(all.subspan(kName + kSecret, kSecret));
    crypto::wipe(output.data(), output.size());
    key.made = std::chrono::system_clock::time_point(period * settings_.period);
    return key;
}

void TicketKeys::rotate() {
    const std::scoped_lock lock(mutex_);
    rotate_locked();
}

void TicketKeys::rotate_locked() {
    const auto now = clock_();
    if (!settings_.secret.empty()) {
        rotate_derived(now);
        return;
    }
    // A clock that was set back: what is from the future begins now, so that it dies no later than a period's key should.
    for (Key& key : keys_) key.made = std::min(key.made, now);
    const auto periods = (now - keys_.front().made) / settings_.period;
    if (periods <= 0) return;
    Key key = make(keys_.front().made + periods * settings_.period);
    // By age, not by number: a period that passed unused made no key.
    std::erase_if(keys_, [&](const Key& old) { return now - old.made >= (kOldKeys + 1) * settings_.period; });
    keys_.insert(keys_.begin(), key);
}

void TicketKeys::rotate_derived(std::chrono::system_clock::time_point now) {
    const auto period_at = [&](std::chrono::system_clock::time_point time) {
        return static_cast<std::int64_t>(std::chrono::floor<std::chrono::seconds>(time).time_since_epoch() / settings_.period);
    };
    const std::int64_t newest = period_at(now + kSkew), oldest = period_at(now) - static_cast<std::int64_t>(kOldKeys);
    const auto period_of = [&](const Key& key) { return period_at(key.made); };
    std::erase_if(keys_, [&](const Key& key) { return period_of(key) < oldest || period_of(key) > newest; });
    for (std::int64_t period = std::max(oldest, newest - static_cast<std::int64_t>(kOldKeys) - 1); period <= newest; ++period)
        if (std::ranges::none_of(keys_, [&](const Key& key) { return period_of(key) == period; })) keys_.push_back(derive(period));
    std::ranges::sort(keys_, std::ranges::greater(), &Key::made);
}

const TicketKeys::Key& TicketKeys::current(std::chrono::system_clock::time_point now) const {
    const auto found = std::ranges::find_if(keys_, [now](const Key& key) { return key.made <= now; });
    return found != keys_.end() ? *found : keys_.front();
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
    const Key& key = current(clock_());
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(cipher_.get())) != 1) return -1;
    std::ranges::copy(key.name, name);
    if (EVP_EncryptInit_ex2(cipher, cipher_.get(), raw(key.cipher), iv, nullptr) != 1 || !set_mac(mac, key)) return -1;
    return 1;
} catch (const std::exception&) {  // no exception may pass through libssl
    return -1;
}

bool TicketKeys::seal(std::span<const std::byte> state, std::vector<std::byte>& ticket) try {
    constexpr std::size_t kBlock = 16, kMac = 32;
    const auto octets = [](std::byte* at) { return reinterpret_cast<unsigned char*>(at); };
    const std::size_t padded = (state.size() / kBlock + 1) * kBlock;
    const Key key = [this] {   // a copy: others may seal meanwhile
        const std::scoped_lock lock(mutex_);
        rotate_locked();
        return current(clock_());
    }();
    const std::size_t head = key.name.size() + kBlock;
    ticket.resize(head + padded + kMac);
    const auto name = std::as_bytes(std::span(key.name));
    std::ranges::copy(name, ticket.begin());
    std::byte* const iv = ticket.data() + name.size();
    const openssl::Owner<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context(EVP_CIPHER_CTX_new());
    int most = 0, last = 0;
    return context && RAND_bytes(octets(iv), kBlock) == 1 && EVP_EncryptInit_ex2(context.get(), cipher_.get(), raw(key.cipher), octets(iv), nullptr) == 1 &&
           EVP_EncryptUpdate(context.get(), octets(ticket.data() + head), &most, reinterpret_cast<const unsigned char*>(state.data()), static_cast<int>(state.size())) == 1 &&
           EVP_EncryptFinal_ex(context.get(), octets(ticket.data() + head) + most, &last) == 1 && static_cast<std::size_t>(most + last) == padded &&
           crypto::hmac(crypto::Hash::sha256, key.mac.octets(), std::array{crypto::Piece(ticket.data(), head + padded)}, std::span(ticket).last(kMac));
} catch (const std::exception&) {
    return false;
}

int TicketKeys::open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) try {
    const std::scoped_lock lock(mutex_);
    rotate_locked();
    const auto key = std::ranges::find_if(keys_, [&](const Key& candidate) { return std::equal(candidate.name.begin(), candidate.name.end(), name); });
    if (key == keys_.end()) return 0;
    if (EVP_DecryptInit_ex2(cipher, cipher_.get(), raw(key->cipher), iv, nullptr) != 1 || !set_mac(mac, *key)) return -1;
    return &*key == &current(clock_()) ? 1 : 2;
} catch (const std::exception&) {
    return -1;
}

std::chrono::seconds TicketKeys::age() const {
    const std::scoped_lock lock(mutex_);
    const auto now = clock_();
    return std::chrono::duration_cast<std::chrono::seconds>(now - current(now).made);
}

std::size_t TicketKeys::count() const {
    const std::scoped_lock lock(mutex_);
    return keys_.size();
}

std::shared_ptr<TicketKeys> make_ticket_keys(const configuration::Tickets& settings) {
    constexpr std::size_t kShortest = 32;
    TicketKeys::Settings made{.period = std::chrono::seconds(settings.period_s)};
    if (!settings.secret.empty()) {
        namespace fs = std::filesystem;
        const std::string file = settings.secret.string();
        std::error_code error;
        const fs::file_status status = fs::status(settings.secret, error);
        if (error || !fs::is_regular_file(status)) throw std::runtime_error(file + ": is no file that could be read; the ticket secret, 32 octets or more");
        if ((status.permissions() & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none)
            throw std::runtime_error(file + ": others than its owner may read or write the ticket secret; mode 0600");
        std::array<std::byte, 4096> octets;
        std::ifstream stream(settings.secret, std::ios::binary);
        stream.rdbuf()->pubsetbuf(nullptr, 0);  // no copy that is not wiped
        stream.read(reinterpret_cast<char*>(octets.data()), octets.size());
        const auto length = static_cast<std::size_t>(stream.gcount());
        // Of any length: a hash of it is as strong, and has a length of its own.
        std::array<std::byte, 32> digest;
        const bool good = length >= kShortest && EVP_Digest(octets.data(), length, reinterpret_cast<unsigned char*>(digest.data()), nullptr, EVP_sha256(), nullptr) == 1;
        if (good) made.secret.assign(digest);
        crypto::wipe(octets.data(), octets.size());
        crypto::wipe(digest.data(), digest.size());
        if (!good) throw std::runtime_error(file + ": is shorter than 32 octets; the ticket secret, such as openssl rand -out makes it");
    }
    return std::make_shared<TicketKeys>(made);
}

}  // namespace sallyport::handshake
