#include "control/flows/brake.h"

#include <openssl/rand.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "crypto/check.h"

namespace sallyport::flows {

namespace {

/// What shares a budget: an IPv4 address, or the /64 of an IPv6 one, which is what a single subscriber has at least (RFC 6177 2).
IpAddress source_of(const IpAddress& address) noexcept {
    IpAddress source = address;
    if (!address.is_v4()) std::fill(source.octets.begin() + 8, source.octets.end(), std::uint8_t{0});
    return source;
}

/// SipHash-2-4 of 16 octets: a keyed hash that who does not know the key cannot make collide.
std::uint64_t siphash(const std::array<std::uint64_t, 2>& key, const std::array<std::uint64_t, 2>& words) noexcept {
    std::uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d;
    std::uint64_t v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573;
    const auto round = [&] {
        v0 += v1; v1 = std::rotl(v1, 13); v1 ^= v0; v0 = std::rotl(v0, 32);
        v2 += v3; v3 = std::rotl(v3, 16); v3 ^= v2;
        v0 += v3; v3 = std::rotl(v3, 21); v3 ^= v0;
        v2 += v1; v1 = std::rotl(v1, 17); v1 ^= v2; v2 = std::rotl(v2, 32);
    };
    for (const std::uint64_t word : {words[0], words[1], std::uint64_t{16} << 56}) {
        v3 ^= word;
        round();
        round();
        v0 ^= word;
    }
    v2 ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
}

/// RFC 8446 4.2.3: ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ecdsa_secp521r1_sha512, ed25519.
bool is_elliptic(std::uint16_t scheme) noexcept { return scheme == 0x0403 || scheme == 0x0503 || scheme == 0x0603 || scheme == 0x0807; }

}  // namespace

SigningKeys signing_keys(const configuration::Service& service) {
    SigningKeys keys;
    for (const auto& files : service.certificates) {
        if (!files.chain) continue;
        (files.chain->ecdsa ? keys.ecdsa : keys.rsa) = true;
    }
    return keys;
}

std::uint32_t full_cost(const handshake::Offer& offer, SigningKeys keys) noexcept {
    const bool elliptic = keys.ecdsa && (!keys.rsa || std::ranges::any_of(offer.signature_schemes, is_elliptic));
    return elliptic ? cost::kEcdsa : cost::kRsa;
}

std::shared_ptr<Brake> Brake::make(const configuration::Brake& settings) { return std::shared_ptr<Brake>(new Brake(settings)); }

Brake::Brake(const configuration::Brake& settings) : memory_(std::make_unique<std::array<Shard, kShards>>()), shards_(*memory_) {
    configure(settings);
    SALLYPORT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(key_.data()), sizeof key_) == 1);
}

void Brake::configure(const configuration::Brake& settings) noexcept {
    connections_ = settings.connections;
    connections_per_source_ = settings.connections_per_source;
    limit_ = settings.handshakes;
    per_source_ = settings.handshakes_per_source;
    rate_ = settings.cost_per_second;
    burst_ = settings.burst;
}

std::uint64_t Brake::hash(const IpAddress& source) const noexcept {
    std::array<std::uint64_t, 2> words{};
    static_assert(sizeof words == sizeof source.octets);
    std::memcpy(words.data(), source.octets.data(), sizeof words);
    return siphash(key_, words);
}

void Brake::refill(Entry& entry, Clock::time_point now) const noexcept {
    const double burst = burst_.load(std::memory_order_relaxed);
    if (now > entry.at) {
        const std::chrono::duration<double> passed = now - entry.at;
        entry.budget += passed.count() * rate_.load(std::memory_order_relaxed);
        entry.at = now;
    }
    entry.budget = std::min(entry.budget, burst);
}

Brake::Entry* Brake::find(std::array<Entry, kWays>& set, const IpAddress& source) noexcept {
    const auto found = std::ranges::find(set, source, &Entry::source);
    return found == set.end() ? nullptr : &*found;
}

/// The source's entry, or one made for it: of those without a connection or handshake under way the one with most budget left goes, which is a free one
/// first and then one whose source loses least of what is held against it. nullptr when all have some.
Brake::Entry* Brake::place(std::array<Entry, kWays>& set, const IpAddress& source, Clock::time_point now) noexcept {
    if (Entry* const found = find(set, source)) {
        refill(*found, now);
        return found;
    }
    Entry* best = nullptr;
    for (Entry& entry : set) {
        if (entry.in_use()) continue;
        if (entry.source.is_unspecified()) {
            best = &entry;
            break;
        }
        refill(entry, now);
        if (best == nullptr || entry.budget > best->budget) best = &entry;
    }
    if (best != nullptr) *best = {source, static_cast<double>(burst_.load(std::memory_order_relaxed)), now, 0, 0};
    return best;
}

std::expected<Brake::Connected, Brake::Refusal> Brake::connect(const IpAddress& address, Clock::time_point now) {
    if (connected_.fetch_add(1, std::memory_order_relaxed) >= connections_.load(std::memory_order_relaxed)) {
        connected_.fetch_sub(1, std::memory_order_relaxed);
        braked_by_total_.fetch_add(1, std::memory_order_relaxed);
        return std::unexpected(Refusal::total);
    }
    Connected connected;
    connected.source_ = source_of(address);
    {
        const std::uint64_t at = hash(connected.source_);
        Shard& home = shard(at);
        const std::lock_guard lock(home.mutex);
        if (Entry* const entry = place(set(home, at), connected.source_, now)) {
            connected.placed_ = entry->connected < connections_per_source_.load(std::memory_order_relaxed);
            if (!connected.placed_) {
                connected_.fetch_sub(1, std::memory_order_relaxed);
                braked_by_source_.fetch_add(1, std::memory_order_relaxed);
                return std::unexpected(Refusal::source);
            }
            ++entry->connected;
        } else {
            unplaced_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    connected.brake_ = shared_from_this();
    return connected;
}

std::expected<Brake::Started, Brake::Refusal> Brake::start(const IpAddress& address, bool resumes, std::uint32_t full, Clock::time_point now) {
    const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
    // Taken first and given back, so that threads together never let in more than the limit.
    const std::uint64_t others = started_.fetch_add(1, std::memory_order_relaxed);
    if (others >= limit || (!resumes && others >= limit - limit / 4)) {
        started_.fetch_sub(1, std::memory_order_relaxed);
        braked_by_total_.fetch_add(1, std::memory_order_relaxed);
        return std::unexpected(Refusal::total);
    }
    const IpAddress source = source_of(address);
    const std::uint32_t price = resumes ? cost::kResumed : full;
    bool placed = false, let_in = true;
    {
        const std::uint64_t at = hash(source);
        Shard& home = shard(at);
        const std::lock_guard lock(home.mutex);
        if (Entry* const entry = place(set(home, at), source, now)) {
            // With some budget left it may go into debt by one handshake: else a budget smaller than one would let nobody in.
            let_in = entry->budget > 0 && entry->under_way < per_source_.load(std::memory_order_relaxed);
            if (let_in) {
                entry->budget -= price;
                ++entry->under_way;
                placed = true;
            }
        } else {
            unplaced_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    if (!let_in) {
        started_.fetch_sub(1, std::memory_order_relaxed);
        braked_by_source_.fetch_add(1, std::memory_order_relaxed);
        return std::unexpected(Refusal::source);
    }
    Started started;
    started.brake_ = shared_from_this();
    started.source_ = source;
    started.unpaid_ = full > price ? full - price : 0;
    started.placed_ = placed;
    return started;
}

void Brake::charge(const IpAddress& source, std::uint32_t units, Clock::time_point now) noexcept {
    const std::uint64_t at = hash(source);
    Shard& home = shard(at);
    const std::lock_guard lock(home.mutex);
    if (Entry* const entry = find(set(home, at), source)) {
        refill(*entry, now);
        entry->budget -= units;
    }
}

/// Takes one from a source's count.
void Brake::leave(const IpAddress& source, bool placed, std::uint32_t Entry::* count) noexcept {
    if (!placed) return;
    const std::uint64_t at = hash(source);
    Shard& home = shard(at);
    const std::lock_guard lock(home.mutex);
    // An entry in use keeps its place.
    if (Entry* const entry = find(set(home, at), source); entry != nullptr && entry->*count != 0) --(entry->*count);
}

Brake::Connected& Brake::Connected::operator=(Connected&& other) noexcept {
    if (this == &other) return *this;
    release();
    brake_ = std::move(other.brake_);
    source_ = other.source_;
    placed_ = other.placed_;
    return *this;
}

void Brake::Connected::release() noexcept {
    const std::shared_ptr<Brake> brake = std::move(brake_);
    if (!brake) return;
    brake->connected_.fetch_sub(1, std::memory_order_relaxed);
    brake->leave(source_, placed_, &Entry::connected);
}

Brake::Started& Brake::Started::operator=(Started&& other) noexcept {
    if (this == &other) return *this;
    release();
    brake_ = std::move(other.brake_);
    source_ = other.source_;
    unpaid_ = other.unpaid_;
    placed_ = other.placed_;
    return *this;
}

void Brake::Started::finish(bool resumed, Clock::time_point now) noexcept {
    if (brake_ && !resumed && unpaid_ != 0 && placed_) brake_->charge(source_, unpaid_, now);
    release();
}

void Brake::Started::release() noexcept {
    const std::shared_ptr<Brake> brake = std::move(brake_);
    if (!brake) return;
    brake->started_.fetch_sub(1, std::memory_order_relaxed);
    brake->leave(source_, placed_, &Entry::under_way);
}

}  // namespace sallyport::flows
