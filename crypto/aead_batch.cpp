#include "crypto/aead_batch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <sys/mman.h>

#include "crypto/check.h"
#include "crypto/gcm_functions.h"

namespace sallyport::crypto {
namespace {

constexpr std::size_t kExplicitNonceLength = 8;                                // RFC 5288 3
constexpr std::size_t kSaltLength = kAeadNonceLength - kExplicitNonceLength;   // RFC 5288 3
constexpr std::size_t kMaxAdditionalDataLength = 13;                           // RFC 5246 6.2.3.3
constexpr std::size_t kBlockLength = 16;                                       // of AES and of Poly1305

/// One contiguous part of a record or of its content. Content is only read, though the pointer could write.
struct Piece {
    std::byte* data;
    std::uint32_t length;
};

constexpr std::uint32_t kLine = 64;
constexpr std::uint32_t kAtOnce = 24 * kLine;   ///< what a core can have under way, about, and a segment of 1,500 octets

/// Fetches the first cache lines of a piece that is worked on soon, `most` octets of it, to be written: what a card or another core has written or read comes over with as many lines
/// under way at a time as the core can have, and not as many as a cipher asks for. Behind them, in a long piece, the processor's own prefetcher is ahead of AES-GCM; to ask for more than
/// can be under way stops the core until they have come (or is forgotten, on others), and the cipher would have worked meanwhile.
/// PREFETCHW itself, which the compiler would not emit for x86-64-v3: where a processor lacks it, it does nothing.
void fetch(const Piece& piece, std::uint32_t most = kAtOnce) noexcept {
    const std::uint32_t length = std::min(piece.length, most);
    for (std::uint32_t at = 0; at < length; at += kLine) asm volatile("prefetchw %0" : : "m"(piece.data[at]));
}

/// Walks over pieces. Whoever queued the record has checked that they hold what will be asked for.
class Cursor {
 public:
    explicit Cursor(const Piece* piece) noexcept : piece_(piece) {}

    /// What lies together in memory from here on: at least one octet, where any are left.
    [[nodiscard]] std::span<std::byte> contiguous() noexcept {
        if (used_ == piece_->length) {
            ++piece_;
            used_ = 0;
        }
        return {piece_->data + used_, piece_->length - used_};
    }
    void advance(std::size_t length) noexcept { used_ += static_cast<std::uint32_t>(length); }

    [[nodiscard]] std::span<std::byte> take(std::size_t limit) noexcept {
        const std::span<std::byte> all = contiguous();
        const std::span<std::byte> taken = all.first(std::min(all.size(), limit));
        advance(taken.size());
        return taken;
    }
    /// Fetches the piece behind the one that is at hand, once. Precondition: there is one.
    void fetch_next() noexcept {
        if (fetched_ == piece_ + 1) return;
        fetched_ = piece_ + 1;
        fetch(*fetched_);
    }
    /// Of a length known to the compiler, and as a rule not split: no call of memcpy.
    template <std::size_t N>
        requires(N != std::dynamic_extent)
    void read(std::span<std::byte, N> to) noexcept {
        if (const std::span<std::byte> from = contiguous(); from.size() >= N) [[likely]] {
            std::memcpy(to.data(), from.data(), N);
            advance(N);
        } else {
            read(std::span<std::byte>(to));
        }
    }
    template <std::size_t N>
        requires(N != std::dynamic_extent)
    void write(std::span<const std::byte, N> from) noexcept {
        if (const std::span<std::byte> to = contiguous(); to.size() >= N) [[likely]] {
            std::memcpy(to.data(), from.data(), N);
            advance(N);
        } else {
            write(std::span<const std::byte>(from));
        }
    }
    void read(std::span<std::byte> to) noexcept {
        while (!to.empty()) {
            const std::span<std::byte> from = take(to.size());
            std::memcpy(to.data(), from.data(), from.size());
            to = to.subspan(from.size());
        }
    }
    void write(std::span<const std::byte> from) noexcept {
        while (!from.empty()) {
            const std::span<std::byte> to = take(from.size());
            std::memcpy(to.data(), from.data(), to.size());
            from = from.subspan(to.size());
        }
    }

 private:
    const Piece* piece_;
    const Piece* fetched_ = nullptr;
    std::uint32_t used_ = 0;
};

using Nonce = std::array<std::uint8_t, kAeadNonceLength>;
using Tag = std::array<std::uint8_t, kAeadTagLength>;

/// A record that waits for flush(). Its nonce and additional data are made when it is queued, while the cache holds
/// its RecordProtection.
struct Job {
    OpenResult* result;            ///< null when the record is to be sealed
    RecordProtection* stops;       ///< opening only: whose records are left alone behind one that is not application data, or null
    std::uint32_t first_piece;     ///< of the fragment, or of the content, whose pieces those of the sealed record follow
    std::uint32_t content_pieces;  ///< sealing only
    std::uint32_t content_length;  ///< sealing only
    std::uint32_t body_length;     ///< octets that are encrypted: with type and padding on TLS 1.3
    std::uint16_t record_pieces;
    std::uint8_t key;
    std::uint8_t additional_data_length;
    Version version;
    ContentType type;
    bool explicit_nonce;
    bool type_behind_content;      ///< sealing only: the octet behind the content is free for the type
    Nonce nonce;
    std::array<std::uint8_t, kMaxAdditionalDataLength> additional_data;
};

/// IPsec-MB stores to it with aligned instructions; its own header asks for that only where LINUX is defined, which no
/// compiler does.
struct alignas(64) ExpandedKey {
    gcm_key_data data;
};

/// A key that records of the present batch use.
struct BatchKey {
    const RecordProtection* owner;  ///< for finding it again; never followed
    std::array<std::byte, kMaxKeyLength> key;
    Aead aead;
    std::uint8_t uses;
    bool stopped;                  ///< a record opened with it was not application data
    const gcm_key_data* expanded;  ///< once it was needed
};

/// An expanded key that outlives the batch.
struct alignas(64) KeptKey {
    std::array<std::byte, kMaxKeyLength> key;
    Aead aead;
    ExpandedKey expanded;
};

/// How much of a KeptKey a record needs at most with IPsec-MB's code for AVX2: the key, round keys, and the powers of the hash key that sixteen blocks take.
/// With that for AVX-512, which has 48 powers, the longest records alone need more.
constexpr std::size_t kFetchedOfKey = 64 + 768;
static_assert(kFetchedOfKey <= sizeof(KeptKey));

/// Whose it is. These stand apart, so that a connection for which no key is kept, among many, has its answer from one cache line.
struct Keeper {
    const RecordProtection* owner = nullptr;   ///< null: nothing is kept; never followed
    std::uint64_t last_flush = 0;              ///< that used it
};

std::uint8_t* octets(std::byte* data) noexcept { return reinterpret_cast<std::uint8_t*>(data); }
const std::uint8_t* octets(const std::byte* data) noexcept { return reinterpret_cast<const std::uint8_t*>(data); }

/// AES-GCM on one record.
class Gcm {
 public:
    static constexpr bool kWhole = false;
    /// Content up to this length is gathered with its type octet: one call on a bounce buffer is then faster than
    /// four on what lies scattered (measured: 64 octets 75 cycles instead of 140, even at about 300).
    static constexpr std::size_t kGather = 240;

    Gcm(const GcmFunctions& functions, const gcm_key_data& key, gcm_context_data& context) noexcept
        : functions_(functions), key_(key), context_(context) {}

    void seal(const Job& job, std::byte* to, const std::byte* from, std::size_t length, std::uint8_t* tag) noexcept {
        functions_.seal(&key_, &context_, octets(to), octets(from), length, job.nonce.data(),
                        job.additional_data.data(), job.additional_data_length, tag, kAeadTagLength);
    }
    void seal(const Job& job, std::byte* to, const std::byte* from, std::size_t length, Tag& tag) noexcept { seal(job, to, from, length, tag.data()); }
    void open(const Job& job, std::byte* data, std::size_t length, Tag& tag) noexcept {
        functions_.open(&key_, &context_, octets(data), octets(data), length, job.nonce.data(),
                        job.additional_data.data(), job.additional_data_length, tag.data(), tag.size());
    }
    void init(const Job& job) noexcept {
        functions_.init(&key_, &context_, job.nonce.data(), job.additional_data.data(), job.additional_data_length);
    }
    void seal_update(std::byte* to, const std::byte* from, std::size_t length) noexcept {
        functions_.seal_update(&key_, &context_, octets(to), octets(from), length);
    }
    void open_update(std::byte* data, std::size_t length) noexcept {
        functions_.open_update(&key_, &context_, octets(data), octets(data), length);
    }
    void seal_finalize(Tag& tag) noexcept { functions_.seal_finalize(&key_, &context_, tag.data(), tag.size()); }
    void open_finalize(Tag& tag) noexcept { functions_.open_finalize(&key_, &context_, tag.data(), tag.size()); }

 private:
    const GcmFunctions& functions_;
    const gcm_key_data& key_;
    gcm_context_data& context_;
};

/// ChaCha20-Poly1305 on one record of up to kGather octets.
class ChaCha {
 public:
    static constexpr bool kWhole = false;
    /// As above; the calls on scattered octets cost some 400 cycles more here.
    static constexpr std::size_t kGather = 2048;

    ChaCha(IMB_MGR* manager, const std::byte* key, chacha20_poly1305_context_data& context) noexcept
        : manager_(manager), key_(key), context_(context) {}

    void seal(const Job& job, std::byte* to, const std::byte* from, std::size_t length, Tag& tag) noexcept {
        run(job, IMB_DIR_ENCRYPT, to, from, length, tag);
    }
    void open(const Job& job, std::byte* data, std::size_t length, Tag& tag) noexcept {
        run(job, IMB_DIR_DECRYPT, data, data, length, tag);
    }
    void init(const Job& job) noexcept {
        IMB_CHACHA20_POLY1305_INIT(manager_, key_, &context_, job.nonce.data(), job.additional_data.data(),
                                   job.additional_data_length);
    }
    void seal_update(std::byte* to, const std::byte* from, std::size_t length) noexcept {
        IMB_CHACHA20_POLY1305_ENC_UPDATE(manager_, key_, &context_, to, from, length);
    }
    void open_update(std::byte* data, std::size_t length) noexcept {
        IMB_CHACHA20_POLY1305_DEC_UPDATE(manager_, key_, &context_, data, data, length);
    }
    void seal_finalize(Tag& tag) noexcept {
        IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager_, &context_, tag.data(), tag.size());
    }
    void open_finalize(Tag& tag) noexcept {
        IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager_, &context_, tag.data(), tag.size());
    }

 private:
    /// There is no direct function for the whole of it; a job is done when submit returns, since this algorithm does
    /// not work on several buffers at a time.
    void run(const Job& record, IMB_CIPHER_DIRECTION direction, std::byte* to, const std::byte* from,
             std::size_t length, Tag& tag) noexcept {
        IMB_JOB* job = IMB_GET_NEXT_JOB(manager_);
        job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
        job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
        job->cipher_direction = direction;
        job->chain_order = direction == IMB_DIR_ENCRYPT ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
        job->enc_keys = key_;
        job->dec_keys = key_;
        job->key_len_in_bytes = kMaxKeyLength;
        job->src = octets(from);
        job->dst = octets(to);
        job->iv = record.nonce.data();
        job->iv_len_in_bytes = record.nonce.size();
        job->cipher_start_src_offset_in_bytes = 0;
        job->hash_start_src_offset_in_bytes = 0;
        job->msg_len_to_cipher_in_bytes = length;
        job->msg_len_to_hash_in_bytes = length;
        job->auth_tag_output = tag.data();
        job->auth_tag_output_len_in_bytes = tag.size();
        job->u.CHACHA20_POLY1305.aad = record.additional_data.data();
        job->u.CHACHA20_POLY1305.aad_len_in_bytes = record.additional_data_length;
        job = IMB_SUBMIT_JOB_NOCHECK(manager_);
        SALLYPORT_CHECK(job != nullptr && job->status == IMB_STATUS_COMPLETED);
    }

    IMB_MGR* manager_;
    const std::byte* key_;
    chacha20_poly1305_context_data& context_;
};

/// ChaCha20-Poly1305 on one longer record, by OpenSSL: IPsec-MB's AVX-512 code may not be used (see State), and its AVX2 code has half the speed of OpenSSL's
/// AVX-512 code (16 KB: 1.8 GB/s and 3.4; 1400 octets alike; 64 octets: 1.7 times). In one piece: to gather and to scatter a record costs a tenth.
class LongChaCha {
 public:
    static constexpr bool kWhole = true;

    LongChaCha(EVP_CIPHER_CTX* context, const std::byte* key) noexcept : context_(context), key_(key) {}

    void seal(const Job& job, std::byte* to, const std::byte* from, std::size_t length, Tag& tag) noexcept {
        begin(job, 1);
        run(to, from, length);
        int more = 0;
        SALLYPORT_CHECK(EVP_CipherFinal_ex(context_, octets(to), &more) == 1);
        SALLYPORT_CHECK(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, tag.size(), tag.data()) == 1);
    }
    /// False: `tag` is not its tag. (Compared in constant time.)
    [[nodiscard]] bool open(const Job& job, std::byte* data, std::size_t length, Tag& tag) noexcept {
        begin(job, 0);
        SALLYPORT_CHECK(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_TAG, tag.size(), tag.data()) == 1);
        run(data, data, length);
        int more = 0;
        return EVP_CipherFinal_ex(context_, octets(data), &more) == 1;
    }
    /// Puts another key and another record in the place of the last ones, with as much of a record as makes it compute all that it keeps of them.
    static void forget(EVP_CIPHER_CTX* context) noexcept {
        const Nonce nonce{};
        std::array<std::uint8_t, 1024> zeros{};
        int done = 0;
        SALLYPORT_CHECK(EVP_CipherInit_ex2(context, nullptr, zeros.data(), nonce.data(), 1, nullptr) == 1);
        SALLYPORT_CHECK(EVP_CipherUpdate(context, zeros.data(), &done, zeros.data(), static_cast<int>(zeros.size() - 1)) == 1);
    }

 private:
    void begin(const Job& job, int sealing) noexcept {
        int done = 0;
        SALLYPORT_CHECK(EVP_CipherInit_ex2(context_, nullptr, octets(key_), job.nonce.data(), sealing, nullptr) == 1);
        SALLYPORT_CHECK(EVP_CipherUpdate(context_, nullptr, &done, job.additional_data.data(), job.additional_data_length) == 1);
    }
    void run(std::byte* to, const std::byte* from, std::size_t length) noexcept {
        int done = 0;
        SALLYPORT_CHECK(EVP_CipherUpdate(context_, octets(to), &done, octets(from), static_cast<int>(length)) == 1);
    }

    EVP_CIPHER_CTX* context_;
    const std::byte* key_;
};

/// As a rule it stands there, from the record that the content came in; a store now would stall the loads of whole vectors that follow.
void set_type(std::byte& octet, ContentType type) noexcept {
    if (octet != static_cast<std::byte>(type)) octet = static_cast<std::byte>(type);
}

void put_big_endian(std::uint8_t* to, std::uint64_t value) noexcept {
    const std::uint64_t swapped = std::byteswap(value);
    std::memcpy(to, &swapped, sizeof swapped);
}

/// In a time that does not depend on where they differ.
bool equal(const Tag& left, const Tag& right) noexcept {
    std::uint64_t l[2], r[2];
    std::memcpy(l, left.data(), sizeof l);
    std::memcpy(r, right.data(), sizeof r);
    std::uint64_t difference = (l[0] ^ r[0]) | (l[1] ^ r[1]);
    asm volatile("" : "+r"(difference));  // lest the compiler compares one half first
    return difference == 0;
}

void wipe_octets(Cursor at, std::size_t length) noexcept {
    while (length > 0) {
        const std::span<std::byte> part = at.take(length);
        wipe(part.data(), part.size());
        length -= part.size();
    }
}

/// Octets of `part` up to its last one that is not zero.
std::size_t length_without_zeros(std::span<const std::byte> part) noexcept {
    std::size_t length = part.size();
    for (std::uint64_t word; length >= sizeof word; length -= sizeof word) {
        std::memcpy(&word, part.data() + length - sizeof word, sizeof word);
        if (word != 0) break;
    }
    while (length > 0 && part[length - 1] == std::byte{0}) --length;
    return length;
}

/// Finds the content type: the last octet of the TLSInnerPlaintext that is not zero (RFC 8446 5.4), which may lie
/// pieces before the end. `body_length` octets of inner plaintext begin with the first piece, which the tag follows.
void read_inner_plaintext(std::span<const Piece> pieces, std::size_t body_length, OpenResult& result) noexcept {
    if (const std::byte* const first = pieces.front().data; pieces.size() == 1 && body_length > 0 && first[body_length - 1] != std::byte{0}) [[likely]] {   // no padding
        result.type = static_cast<ContentType>(first[body_length - 1]);
        result.content_length = static_cast<std::uint32_t>(body_length - 1);
        result.status = OpenResult::Status::ok;
        return;
    }
    std::size_t end = body_length + kAeadTagLength;
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
        const std::size_t begin = end - piece->length;
        if (begin < body_length) {
            const std::span<const std::byte> part(piece->data, std::min(end, body_length) - begin);
            if (const std::size_t length = length_without_zeros(part); length > 0) {
                result.type = static_cast<ContentType>(part[length - 1]);
                result.content_length = static_cast<std::uint32_t>(begin + length - 1);
                result.status = OpenResult::Status::ok;
                return;
            }
        }
        end = begin;
    }
    result.status = OpenResult::Status::no_content_type;
}

}  // namespace

struct alignas(64) AeadBatch::State {
    /// A key that only one record uses is expanded into the first of these, which stays in the first-level cache:
    /// among many flows most keys are of that kind. One that several use gets its own.
    static constexpr std::size_t kSharedKeys = kMaxRecords / 2;
    static constexpr std::size_t kKeyTableSize = 256;
    static_assert(kKeyTableSize >= 2 * kMaxRecords && kMaxRecords < 255);
    static constexpr std::size_t kWays = 4;   ///< places in which a key may be kept
    static constexpr std::size_t kSeen = 2048;
    static constexpr std::uint64_t kNotExpanded = ~std::uint64_t{0};   ///< in the place of a flush
    static constexpr std::size_t kNowhere = kKeptKeys;

    explicit State(Instructions instructions) noexcept;
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    static void* operator new(std::size_t size, std::align_val_t);
    static void operator delete(void* memory, std::size_t size, std::align_val_t) noexcept;

    [[nodiscard]] Job* take_job(RecordProtection& protection, std::size_t pieces, std::size_t body_length,
                                ContentType outer_type) noexcept;
    [[nodiscard]] std::uint8_t find_key(const RecordProtection& owner, Aead aead,
                                        const std::array<std::byte, kMaxKeyLength>& key) noexcept;
    template <typename SomePiece>
    std::size_t add_pieces(std::span<const SomePiece> list) noexcept;

    void prefetch(const Job& job) const noexcept;
    void prefetch_key(const RecordProtection& owner) const noexcept;
    const gcm_key_data& expand(BatchKey& key, const GcmFunctions& functions) noexcept;
    static std::size_t first_place(const RecordProtection& owner) noexcept;
    [[nodiscard]] std::size_t place_for(const BatchKey& key) noexcept;
    void run(Job& job) noexcept;
    template <typename Cipher>
    void run(Cipher cipher, Job& job) noexcept;
    template <typename Cipher>
    void open(Cipher& cipher, Job& job) noexcept;
    template <typename Cipher>
    void seal(Cipher& cipher, Job& job) noexcept;
    void seal_whole(Gcm& cipher, Job& job) noexcept;
    template <typename Cipher>
    [[nodiscard]] bool decrypt(Cipher& cipher, Job& job, Cursor& cursor) noexcept;
    void wipe_keys() noexcept;

    IMB_MGR* manager = nullptr;
    EVP_CIPHER* long_cipher = nullptr;
    EVP_CIPHER_CTX* long_context = nullptr;   ///< of OpenSSL's memory; has a key in it within a flush only
    bool long_used = false;
    /// For short records of ChaCha20-Poly1305: one without AVX-512. There IPsec-MB 2.0 loses a carry of Poly1305 in about one record of a million, whose tag is
    /// then wrong. May be `manager`.
    IMB_MGR* chacha_manager = nullptr;
    GcmFunctionsByKey gcm{};
    Counters counters;
    std::size_t jobs_used = 0;
    std::size_t pieces_used = 0;
    std::size_t keys_used = 0;
    std::size_t shared_used = 0;
    bool single_used = false;
    std::size_t bounce_used = 0;

    alignas(64) gcm_context_data gcm_context;
    alignas(64) chacha20_poly1305_context_data chacha_context;
    std::array<std::uint8_t, kKeyTableSize> key_table;  ///< open addressing by owner: index into `keys` + 1, or 0
    std::array<BatchKey, kMaxRecords> keys;
    std::array<Job, kMaxRecords> jobs;
    alignas(64) std::array<std::byte, std::max(kMaxTls12CiphertextLength, kMaxTls13CiphertextLength)> bounce;   ///< the longest record that a header may announce
    ExpandedKey single_key;
    std::array<ExpandedKey, kSharedKeys> shared_keys;
    /// Each in one of kWays places beside each other, which its owner tells.
    alignas(64) std::array<Keeper, kKeptKeys> keepers{};
    static_assert(kWays * sizeof(Keeper) == 64);
    std::array<KeptKey, kKeptKeys> kept_keys{};
    /// By a hash of the owner, the rest of that hash: who was seen lately. A key is kept when it comes a second time.
    std::array<std::uint16_t, kSeen> seen{};
    std::array<Piece, kMaxPieces> pieces;
};

/// Whole huge pages: which kept key is wanted next nobody knows.
constexpr std::size_t mapped(std::size_t size) noexcept {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    return (size + kHugePage - 1) / kHugePage * kHugePage;
}

void* AeadBatch::State::operator new(std::size_t size, std::align_val_t) {
    void* memory = mmap(nullptr, mapped(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SALLYPORT_CHECK(memory != MAP_FAILED);
    SALLYPORT_CHECK(madvise(memory, mapped(size), MADV_DONTDUMP) == 0);
    static_cast<void>(madvise(memory, mapped(size), MADV_HUGEPAGE));   // without huge pages it works, too
    return memory;
}

void AeadBatch::State::operator delete(void* memory, std::size_t size, std::align_val_t) noexcept {
    munmap(memory, mapped(size));
}

AeadBatch::State::State(Instructions instructions) noexcept {
    manager = alloc_mb_mgr(0);
    SALLYPORT_CHECK(manager != nullptr);
    SALLYPORT_CHECK(supported(instructions));
    switch (instructions) {
        case Instructions::best:
            init_mb_mgr_auto(manager, nullptr);
            break;
        case Instructions::sse:
            init_mb_mgr_sse(manager);
            break;
        case Instructions::avx2:
        case Instructions::avx2_vaes:
            init_mb_mgr_avx2(manager);
            break;
        case Instructions::avx512:
            init_mb_mgr_avx512(manager);
            break;
    }
    chacha_manager = manager;
    // AVX-IFMA's code is another again, which we have no processor to try on.
    const bool avx_ifma = (manager->features & IMB_FEATURE_AVX_IFMA) != 0;
    if (manager->used_arch >= IMB_ARCH_AVX512 || (manager->used_arch == IMB_ARCH_AVX2 && avx_ifma)) {
        chacha_manager = alloc_mb_mgr(0);
        SALLYPORT_CHECK(chacha_manager != nullptr);
        if (avx_ifma)
            init_mb_mgr_sse(chacha_manager);
        else
            init_mb_mgr_avx2(chacha_manager);
        SALLYPORT_CHECK((chacha_manager->features & IMB_FEATURE_SELF_TEST_PASS) != 0);
    }
    long_cipher = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
    long_context = EVP_CIPHER_CTX_new();
    SALLYPORT_CHECK(long_cipher != nullptr && long_context != nullptr && EVP_CipherInit_ex2(long_context, long_cipher, nullptr, nullptr, 1, nullptr) == 1);
    LongChaCha::forget(long_context);
    SALLYPORT_CHECK(imb_get_errno(manager) == 0);
    SALLYPORT_CHECK((manager->features & IMB_FEATURE_SELF_TEST_PASS) != 0);
    gcm = instructions == Instructions::avx2_vaes ? *vaes_gcm_functions() : instructions == Instructions::best ? fastest_gcm_functions(*manager)
                                                                                                               : chosen_gcm_functions(*manager);
    key_table.fill(0);
}

AeadBatch::State::~State() {
    wipe_keys();
    wipe(kept_keys.data(), sizeof kept_keys);
    if (chacha_manager != manager) free_mb_mgr(chacha_manager);
    free_mb_mgr(manager);
    EVP_CIPHER_CTX_free(long_context);
    EVP_CIPHER_free(long_cipher);
}

std::uint8_t AeadBatch::State::find_key(const RecordProtection& owner, Aead aead,
                                        const std::array<std::byte, kMaxKeyLength>& key) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&owner);
    for (std::size_t slot = (address * 0x9e3779b97f4a7c15U) >> 56;; slot = (slot + 1) % kKeyTableSize) {
        if (key_table[slot] == 0) {
            key_table[slot] = static_cast<std::uint8_t>(keys_used + 1);
            keys[keys_used] = {&owner, key, aead, 1, false, nullptr};
            prefetch_key(owner);
            return static_cast<std::uint8_t>(keys_used++);
        }
        const auto index = static_cast<std::uint8_t>(key_table[slot] - 1);
        BatchKey& known = keys[index];
        // The same owner may have been given another key since (KeyUpdate).
        if (known.owner == &owner && known.aead == aead &&
            std::memcmp(known.key.data(), key.data(), key.size()) == 0) {
            ++known.uses;
            return index;
        }
    }
}

/// Takes a place in the batch, the sequence number and the key. Null when there is no room for so many pieces.
Job* AeadBatch::State::take_job(RecordProtection& protection, std::size_t piece_count, std::size_t body_length,
                                ContentType outer_type) noexcept {
    SALLYPORT_CHECK(protection.installed_);
    if (jobs_used == kMaxRecords || kMaxPieces - pieces_used < piece_count) return nullptr;
    Job& job = jobs[jobs_used++];
    job.first_piece = static_cast<std::uint32_t>(pieces_used);
    job.version = protection.version_;
    job.body_length = static_cast<std::uint32_t>(body_length);
    job.key = find_key(protection, protection.aead_, protection.key_);

    const std::uint64_t sequence = protection.sequence_;
    job.explicit_nonce = protection.version_ == Version::tls12 && protection.aead_ != Aead::chacha20_poly1305;
    std::memcpy(job.nonce.data(), protection.iv_.data(), kSaltLength);
    if (!job.explicit_nonce) {  // RFC 8446 5.3, RFC 7905 2: the padded sequence number xor the IV
        std::uint64_t low;
        std::memcpy(&low, protection.iv_.data() + kSaltLength, sizeof low);
        low ^= std::byteswap(sequence);
        std::memcpy(job.nonce.data() + kSaltLength, &low, sizeof low);
    }

    std::uint8_t* header = job.additional_data.data();
    std::size_t length = body_length;
    if (protection.version_ == Version::tls12) {  // RFC 5246 6.2.3.3: seq_num + type + version + plaintext's length
        put_big_endian(header, sequence);
        header += sizeof sequence;
        job.additional_data_length = kMaxAdditionalDataLength;
    } else {  // RFC 8446 5.2: the record header
        length += kAeadTagLength;
        job.additional_data_length = kRecordHeaderLength;
    }
    header[0] = static_cast<std::uint8_t>(outer_type);
    header[1] = 3;
    header[2] = 3;
    header[3] = static_cast<std::uint8_t>(length >> 8);
    header[4] = static_cast<std::uint8_t>(length);

    if (sequence == std::numeric_limits<std::uint64_t>::max())
        protection.clear();
    else
        ++protection.sequence_;
    return &job;
}

template <typename SomePiece>
std::size_t AeadBatch::State::add_pieces(std::span<const SomePiece> list) noexcept {
    const std::size_t before = pieces_used;
    for (const SomePiece& piece : list)
        if (piece.length > 0) pieces[pieces_used++] = {const_cast<std::byte*>(piece.data), piece.length};
    return pieces_used - before;
}

void AeadBatch::State::prefetch(const Job& job) const noexcept {
    // What is to be sealed has been opened or received lately. ChaCha20-Poly1305 takes so long that all of the next record comes meanwhile
    // (row 4 of the bench: 3 % more than with a part of it).
    const std::uint32_t most = keys[job.key].aead == Aead::chacha20_poly1305 ? std::numeric_limits<std::uint32_t>::max() : kAtOnce;
    fetch(pieces[job.first_piece + (job.result != nullptr ? 0 : job.content_pieces)], most);
}

std::size_t AeadBatch::State::first_place(const RecordProtection& owner) noexcept {
    const std::uint64_t hash = reinterpret_cast<std::uintptr_t>(&owner) * 0x9e3779b97f4a7c15U;
    return (hash >> 40) % (kKeptKeys / kWays) * kWays;
}

/// What is kept of the owner's key, which is used as soon as the batch is: some hundreds of them are more than the first-level cache has room for.
void AeadBatch::State::prefetch_key(const RecordProtection& owner) const noexcept {
    const std::size_t first = first_place(owner);
    for (std::size_t place = first; place < first + kWays; ++place) {
        if (keepers[place].owner != &owner) continue;
        const char* const kept = reinterpret_cast<const char*>(&kept_keys[place]);
        for (std::size_t offset = 0; offset < kFetchedOfKey; offset += 64) __builtin_prefetch(kept + offset);
    }
}

/// Where the key is kept, or is to be from now on; kNowhere where it is not. What this flush has used stays: records of it may follow.
std::size_t AeadBatch::State::place_for(const BatchKey& key) noexcept {
    const std::size_t first = first_place(*key.owner);
    std::size_t free = kNowhere;
    for (std::size_t place = first; place < first + kWays; ++place) {
        const Keeper& keeper = keepers[place];
        if (keeper.owner == key.owner && kept_keys[place].aead == key.aead && std::memcmp(kept_keys[place].key.data(), key.key.data(), key.key.size()) == 0)
            return place;
        if (keeper.owner != nullptr && keeper.last_flush == counters.flushes) continue;
        if (free == kNowhere || keeper.last_flush < keepers[free].last_flush) free = place;
    }
    const std::uint64_t hash = reinterpret_cast<std::uintptr_t>(key.owner) * 0xd6e8feb86659fd93U;
    std::uint16_t& last = seen[(hash >> 48) % kSeen];
    const auto rest = static_cast<std::uint16_t>(hash >> 32 | 1);
    if (last != rest) {
        last = rest;
        return kNowhere;
    }
    if (free != kNowhere) {
        keepers[free] = {key.owner, kNotExpanded};
        kept_keys[free].key = key.key;
        kept_keys[free].aead = key.aead;
    }
    return free;
}

const gcm_key_data& AeadBatch::State::expand(BatchKey& key, const GcmFunctions& functions) noexcept {
    if (key.expanded != nullptr) return *key.expanded;
    const std::size_t place = place_for(key);
    const bool kept = place != kNowhere;
    if (kept && keepers[place].last_flush != kNotExpanded) {
        ++counters.keys_found;
    } else {
        ExpandedKey& to = kept ? kept_keys[place].expanded : key.uses == 1 ? single_key : shared_keys[shared_used++];
        if (!kept && key.uses == 1) single_used = true;
        functions.expand(key.key.data(), &to.data);
        key.expanded = &to.data;
        ++counters.key_expansions;
    }
    if (kept) {
        keepers[place].last_flush = counters.flushes;
        key.expanded = &kept_keys[place].expanded.data;
    }
    return *key.expanded;
}

void AeadBatch::forget(const RecordProtection& protection) noexcept {
    const std::size_t first = State::first_place(protection);
    for (std::size_t place = first; place < first + State::kWays; ++place)
        if (state_->keepers[place].owner == &protection) {
            KeptKey& kept = state_->kept_keys[place];
            wipe(&kept.expanded, sizeof kept.expanded);
            wipe(kept.key.data(), kept.key.size());
            state_->keepers[place] = {};
        }
}

/// Decrypts the body of a record, in place, and reads its tag. False: it is not the body's.
template <typename Cipher>
bool AeadBatch::State::decrypt(Cipher& cipher, Job& job, Cursor& cursor) noexcept {
    Tag computed, received;
    const std::span<std::byte> whole = cursor.contiguous();
    if constexpr (Cipher::kWhole) {
        SALLYPORT_CHECK(job.body_length <= bounce.size());
        Cursor back = cursor;
        const bool gather = whole.size() < job.body_length;
        const std::span<std::byte> gathered = std::span(bounce).first(gather ? job.body_length : 0);
        if (gather) {
            cursor.read(gathered);
            bounce_used = std::max(bounce_used, gathered.size());
        } else {
            cursor.advance(job.body_length);
        }
        cursor.read(std::as_writable_bytes(std::span(received)));
        const bool valid = cipher.open(job, gather ? gathered.data() : whole.data(), job.body_length, received);
        back.write(gathered);
        return valid;
    } else {
        if (whole.size() >= job.body_length) [[likely]] {
            cipher.open(job, whole.data(), job.body_length, computed);
            cursor.advance(job.body_length);
        } else {
            cipher.init(job);
            for (std::size_t left = job.body_length; left > 0;) {
                const std::span<std::byte> part = cursor.take(left);
                left -= part.size();
                if (left > 0) cursor.fetch_next();
                cipher.open_update(part.data(), part.size());
            }
            cipher.open_finalize(computed);
        }
        cursor.read(std::as_writable_bytes(std::span(received)));
        return equal(computed, received);
    }
}

template <typename Cipher>
void AeadBatch::State::open(Cipher& cipher, Job& job) noexcept {
    Cursor cursor(&pieces[job.first_piece]);
    OpenResult& result = *job.result;
    if (job.explicit_nonce)
        cursor.read(std::as_writable_bytes(std::span(job.nonce).template last<kExplicitNonceLength>()));

    const Cursor body = cursor;
    const bool valid = decrypt(cipher, job, cursor);

    result.content_offset = job.explicit_nonce ? kExplicitNonceLength : 0;
    result.content_length = 0;
    const bool tls13 = job.version == Version::tls13;
    if (!valid) [[unlikely]] {
        result.status = OpenResult::Status::bad_record_mac;
    } else if (job.body_length > kMaxPlaintextLength + (tls13 ? 1 : 0)) [[unlikely]] {
        result.status = OpenResult::Status::plaintext_overflow;
    } else if (tls13) {
        read_inner_plaintext({&pieces[job.first_piece], job.record_pieces}, job.body_length, result);
    } else {
        result.type = job.type;
        result.content_length = job.body_length;
        result.status = OpenResult::Status::ok;
    }
    ++counters.opened;
    counters.octets += result.content_length;
    if (result.status != OpenResult::Status::ok || result.type != ContentType::application_data) [[unlikely]]
        keys[job.key].stopped = true;
    if (result.status != OpenResult::Status::ok) [[unlikely]] {
        ++counters.failed;
        wipe_octets(body, job.body_length);
    }
}

/// A short record of TLS 1.3 as a rule: content and record in one piece each, the type behind the content.
void AeadBatch::State::seal_whole(Gcm& cipher, Job& job) noexcept {
    const Piece& from = pieces[job.first_piece];
    std::byte* const record = pieces[job.first_piece + 1].data;
    std::memcpy(record, job.additional_data.data(), kRecordHeaderLength);
    set_type(from.data[job.content_length], job.type);
    cipher.seal(job, record + kRecordHeaderLength, from.data, job.body_length, octets(record + kRecordHeaderLength + job.body_length));
    ++counters.sealed;
    counters.octets += job.content_length;
}

template <typename Cipher>
void AeadBatch::State::seal(Cipher& cipher, Job& job) noexcept {
    if constexpr (std::is_same_v<Cipher, Gcm>)
        if (job.type_behind_content && job.content_pieces == 1 && job.record_pieces == 1) return seal_whole(cipher, job);
    Cursor from(&pieces[job.first_piece]);
    Cursor to(&pieces[job.first_piece + job.content_pieces]);
    const bool tls13 = job.version == Version::tls13;
    // The record header, which is also the end of the additional data; there 1.2 has the length of the plaintext.
    std::array<std::uint8_t, kRecordHeaderLength> header;
    std::memcpy(header.data(), job.additional_data.data() + job.additional_data_length - header.size(), header.size());
    if (!tls13) {
        const std::size_t length =
            job.body_length + kAeadTagLength + (job.explicit_nonce ? kExplicitNonceLength : 0);
        header[3] = static_cast<std::uint8_t>(length >> 8);
        header[4] = static_cast<std::uint8_t>(length);
    }
    to.write(std::as_bytes(std::span(header)));
    if (job.explicit_nonce) to.write(std::as_bytes(std::span(job.nonce).template last<kExplicitNonceLength>()));

    // On TLS 1.3 the type is encrypted behind the content. Where it can't be put there, the content's last octets go
    // into the bounce buffer, with the type behind them. Short content goes there as a whole unless it is in one piece.
    std::size_t content_length = job.content_length;
    if (job.type_behind_content) {
        Piece& last = pieces[job.first_piece + job.content_pieces - 1];
        set_type(last.data[last.length++], job.type);
        ++content_length;
    }
    const bool type_gathered = tls13 && !job.type_behind_content;
    Tag tag;
    if constexpr (Cipher::kWhole) {
        SALLYPORT_CHECK(job.body_length <= bounce.size());
        const std::span<std::byte> gathered = std::span(bounce).first(job.body_length);
        const std::byte* source = from.contiguous().data();
        if (type_gathered || from.contiguous().size() < content_length) {
            from.read(gathered.first(content_length));
            if (type_gathered) gathered.back() = static_cast<std::byte>(job.type);
            source = gathered.data();
        }
        const bool scatter = to.contiguous().size() < job.body_length;
        if (scatter || source == gathered.data()) bounce_used = std::max(bounce_used, gathered.size());
        cipher.seal(job, scatter ? gathered.data() : to.contiguous().data(), source, job.body_length, tag);
        if (scatter)
            to.write(std::span<const std::byte>(gathered));
        else
            to.advance(job.body_length);
    } else {
        std::size_t gathered = type_gathered ? content_length % kBlockLength : 0;
        if (content_length <= Cipher::kGather && (type_gathered || job.content_pieces > 1)) gathered = content_length;
        std::size_t left = content_length - gathered;

        if (left == job.body_length && (left == 0 || from.contiguous().size() >= left) && to.contiguous().size() >= left) {
            // in one piece
            cipher.seal(job, to.contiguous().data(), left == 0 ? bounce.data() : from.contiguous().data(), left, tag);
            to.advance(left);
        } else {
            const bool whole = left == 0 && to.contiguous().size() >= job.body_length;
            if (!whole) cipher.init(job);
            while (left > 0) {
                const std::span<const std::byte> in = from.contiguous();
                if (in.size() < left) from.fetch_next();
                if (to.contiguous().size() < left) to.fetch_next();
                const std::span<std::byte> out = to.take(std::min(left, in.size()));
                cipher.seal_update(out.data(), in.data(), out.size());
                from.advance(out.size());
                left -= out.size();
            }
            from.read(std::span(bounce).first(gathered));
            if (type_gathered) bounce[gathered++] = static_cast<std::byte>(job.type);
            bounce_used = std::max(bounce_used, gathered);
            if (whole) {
                cipher.seal(job, to.contiguous().data(), bounce.data(), gathered, tag);
                to.advance(gathered);
            } else {
                for (std::size_t done = 0; done < gathered;) {
                    const std::span<std::byte> out = to.take(gathered - done);
                    cipher.seal_update(out.data(), bounce.data() + done, out.size());
                    done += out.size();
                }
                cipher.seal_finalize(tag);
            }
        }
    }
    to.write(std::as_bytes(std::span(tag)));
    ++counters.sealed;
    counters.octets += job.content_length;
}

template <typename Cipher>
void AeadBatch::State::run(Cipher cipher, Job& job) noexcept {
    if (job.result != nullptr)
        open(cipher, job);
    else
        seal(cipher, job);
}

void AeadBatch::State::run(Job& job) noexcept {
    BatchKey& key = keys[job.key];
    if (job.result != nullptr && job.stops != nullptr && key.stopped) [[unlikely]] {
        --job.stops->sequence_;
        return;
    }
    switch (key.aead) {
        case Aead::aes_128_gcm:
            return run(Gcm(gcm.of_128, expand(key, gcm.of_128), gcm_context), job);
        case Aead::aes_256_gcm:
            return run(Gcm(gcm.of_256, expand(key, gcm.of_256), gcm_context), job);
        case Aead::chacha20_poly1305:
            if (job.body_length > ChaCha::kGather) {
                long_used = true;
                return run(LongChaCha(long_context, key.key.data()), job);
            }
            return run(ChaCha(chacha_manager, key.key.data(), chacha_context), job);
    }
}

/// Whatever of keys, nonces and plaintext the batch has left in this object. (IPsec-MB wipes its own.)
void AeadBatch::State::wipe_keys() noexcept {
    for (std::size_t i = 0; i < jobs_used; ++i) wipe(jobs[i].nonce.data(), jobs[i].nonce.size());
    wipe(keys.data(), keys_used * sizeof keys[0]);
    wipe(shared_keys.data(), shared_used * sizeof shared_keys[0]);
    if (single_used) wipe(&single_key, sizeof single_key);
    if (long_used) LongChaCha::forget(long_context);
    wipe(bounce.data(), bounce_used);
    wipe(&gcm_context, sizeof gcm_context);
    wipe(&chacha_context, sizeof chacha_context);
    key_table.fill(0);
    keys_used = 0;
    shared_used = 0;
    single_used = false;
    long_used = false;
    bounce_used = 0;
}

AeadBatch::AeadBatch(Instructions instructions) : state_(std::make_unique<State>(instructions)) {}

AeadBatch::~AeadBatch() = default;

bool AeadBatch::supported(Instructions instructions) noexcept {
    const auto has = [features = imb_get_feature_flags()](std::uint64_t needed) {
        return (features & needed) == needed;
    };
    switch (instructions) {
        case Instructions::best:
        case Instructions::sse:
            return has(IMB_CPUFLAGS_SSE);
        case Instructions::avx2:
            return has(IMB_CPUFLAGS_AVX2);
        case Instructions::avx2_vaes:
            return vaes_gcm_functions() != nullptr;
        case Instructions::avx512:
            return has(IMB_CPUFLAGS_AVX512);
    }
    return false;
}

bool AeadBatch::open(RecordProtection& protection, RecordHeader header, std::span<const WritePiece> fragment,
                     OpenResult* result, After after) noexcept {
    const bool explicit_nonce =
        protection.version_ == Version::tls12 && protection.aead_ != Aead::chacha20_poly1305;
    const std::size_t expansion = kAeadTagLength + (explicit_nonce ? kExplicitNonceLength : 0);
    std::size_t length = 0;
    for (const WritePiece& piece : fragment) length += piece.length;
    SALLYPORT_CHECK(length == header.length && length >= expansion && result != nullptr);

    Job* job = state_->take_job(protection, fragment.size(), length - expansion, header.type);
    if (job == nullptr) return false;
    job->result = result;
    job->stops = after == After::application_data ? &protection : nullptr;
    job->type = header.type;
    job->record_pieces = static_cast<std::uint16_t>(state_->add_pieces(fragment));
    result->status = OpenResult::Status::pending;
    return true;
}

bool AeadBatch::seal(RecordProtection& protection, ContentType type, std::span<const ReadPiece> content,
                     std::span<const WritePiece> record, OctetBehind behind) noexcept {
    std::size_t content_length = 0;
    for (const ReadPiece& piece : content) content_length += piece.length;
    std::size_t record_length = 0;
    for (const WritePiece& piece : record) record_length += piece.length;
    SALLYPORT_CHECK(content_length <= kMaxPlaintextLength);
    SALLYPORT_CHECK(record_length == protection.sealed_length(content_length));

    const bool tls13 = protection.version_ == Version::tls13;
    const std::uint64_t explicit_nonce = protection.explicit_nonce_;
    Job* job = state_->take_job(protection, content.size() + record.size(), content_length + (tls13 ? 1 : 0),
                                tls13 ? ContentType::application_data : type);
    if (job == nullptr) return false;
    if (job->explicit_nonce) {
        put_big_endian(job->nonce.data() + kSaltLength, explicit_nonce);
        protection.explicit_nonce_ = explicit_nonce + 1;
    }
    job->result = nullptr;
    job->type = type;
    job->content_length = static_cast<std::uint32_t>(content_length);
    job->content_pieces = static_cast<std::uint32_t>(state_->add_pieces(content));
    job->type_behind_content = tls13 && behind == OctetBehind::free && content_length > 0;
    job->record_pieces = static_cast<std::uint16_t>(state_->add_pieces(record));
    return true;
}

void AeadBatch::flush() noexcept {
    State& state = *state_;
    if (state.jobs_used == 0) return;
    for (std::size_t i = 0; i < state.jobs_used; ++i) {
        if (i + 1 < state.jobs_used) state.prefetch(state.jobs[i + 1]);
        state.run(state.jobs[i]);
    }
    ++state.counters.flushes;
    state.wipe_keys();
    state.jobs_used = 0;
    state.pieces_used = 0;
}

std::size_t AeadBatch::queued() const noexcept { return state_->jobs_used; }

const AeadBatch::Counters& AeadBatch::counters() const noexcept { return state_->counters; }

std::span<const std::byte> AeadBatch::memory() const noexcept {
    return std::as_bytes(std::span(state_.get(), 1));
}

}  // namespace sallyport::crypto
