// The record engine against IPsec-MB called directly and against OpenSSL's EVP, on the same records in the same process.
//
//   record_engine_bench [Google Benchmark's options]
//
// Every row is a TLS 1.3 record; a batch is one flush() for ours and a loop of calls for the others. Opening works in
// place, so the ciphertext is put back before each batch: that is not in the figures, which come from the TSC. With one
// flow raw and EVP keep the expanded key. With 100,000 flows, visited in random order, all three have 16 or 32 octets of
// key a flow and expand them for each record; "kept" are raw calls with an expanded key kept for each flow. The table at the end takes the
// median batch of each program's best repetition.

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <format>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <x86intrin.h>

#include "crypto/aead_batch.h"
#include "crypto/check.h"
#include "crypto/gcm_functions.h"

namespace sallyport::crypto {
namespace {

constexpr std::size_t kPieceLength = 1448;  // what a segment of a 1500-octet packet carries, with timestamps
constexpr std::size_t kManyFlows = 100'000;
constexpr std::size_t kBodyOffset = kRecordHeaderLength;

struct Case {
    std::uint16_t suite;
    bool sealing;
    std::uint32_t length;  ///< of the content
    bool pieces;
    bool many_flows;
    bool untouched = false;  ///< the octet behind the content to be sealed must stay as it is

    [[nodiscard]] std::string name() const {
        const char* aead = suite == 0x1301 ? "aes-128-gcm" : suite == 0x1302 ? "aes-256-gcm" : "chacha20-poly1305";
        return std::format("{}/{}/{}{}{}{}", aead, sealing ? "seal" : "open", length, pieces ? "/pieces-of-1448" : "",
                           many_flows ? "/100000-flows" : "",
                           untouched ? "/octet-behind-untouched" : "");
    }
    [[nodiscard]] std::size_t batch() const { return length > 4096 ? 16 : 64; }
};

unsigned char* raw(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }
const unsigned char* raw(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }

/// A stretch that is contiguous both where it is read and where it is written.
struct Span {
    const std::byte* from;
    std::byte* to;
    std::uint32_t length;
};

/// One place of a batch: a record in memory of its own, and what each program needs to know of it.
struct Place {
    std::vector<std::byte> content, record;
    std::vector<ReadPiece> content_pieces;
    std::vector<WritePiece> record_pieces, fragment_pieces;
    std::vector<Span> body;  ///< of the TLSInnerPlaintext
    std::byte* tag;
    std::size_t flow = 0;
    std::uint64_t sequence = 0;
    OpenResult result;
};

struct RawKey {
    std::array<std::byte, kMaxKeyLength> key;
    std::array<std::byte, kAeadNonceLength> iv;
};

/// The records of one case.
class Workload {
 public:
    explicit Workload(const Case& wanted) : wanted_(wanted), suite_(*find_cipher_suite(wanted.suite)) {
        std::mt19937_64 random(1);
        keys.resize(wanted.many_flows ? kManyFlows : 1);
        for (RawKey& key : keys) {
            for (std::byte& octet : key.key) octet = static_cast<std::byte>(random());
            for (std::byte& octet : key.iv) octet = static_cast<std::byte>(random());
        }
        protections.resize(keys.size());
        order_.resize(keys.size());
        std::iota(order_.begin(), order_.end(), 0u);
        std::ranges::shuffle(order_, random);
        places.resize(wanted.batch());
        for (Place& place : places) make(place, random);
        make_ciphertext();
    }

    /// Chooses the flows of the next batch; puts ciphertext where it is to be opened.
    void prepare() {
        for (std::size_t i = 0; i < places.size(); ++i) {
            Place& place = places[i];
            place.flow = wanted_.many_flows ? order_[next_++ % order_.size()] : 0;
            place.sequence = wanted_.many_flows ? 0 : i;
            if (!wanted_.sealing) {
                const std::size_t which = wanted_.many_flows ? place.flow : i;
                std::memcpy(place.record.data(), ciphertext_.data() + which * place.record.size(), place.record.size());
            }
        }
    }
    void install(std::size_t flow) {
        TrafficKey key;
        key.key.assign(std::span(keys[flow].key).first(key_length(suite_.aead)));
        key.iv.assign(keys[flow].iv);
        protections[flow].install(suite_, key, 0, 0);
    }

    std::vector<RawKey> keys;
    std::vector<RecordProtection> protections;
    std::vector<Place> places;

 private:
    void make(Place& place, std::mt19937_64& random) {
        // One octet more than the content: the type, as behind the content of a record that was opened. The raw calls
        // count on it, ours only without '/octet-behind-untouched'.
        place.content.resize(wanted_.length + 1);
        for (std::byte& octet : place.content) octet = static_cast<std::byte>(random());
        place.content.back() = std::byte{23};
        place.record.resize(kBodyOffset + wanted_.length + 1 + kAeadTagLength);
        const auto split = [&](auto& pieces, auto* data, std::size_t at, std::size_t length) {
            for (const std::size_t most = wanted_.pieces ? kPieceLength : length; at < length;) {
                const std::size_t part = std::min(most - at % most, length - at);
                pieces.push_back({data + at, static_cast<std::uint32_t>(part)});
                at += part;
            }
        };
        split(place.content_pieces, static_cast<const std::byte*>(place.content.data()), 0, wanted_.length);
        split(place.record_pieces, place.record.data(), 0, place.record.size());
        split(place.fragment_pieces, place.record.data(), kBodyOffset, place.record.size());
        std::byte* body = place.record.data() + kBodyOffset;
        const std::size_t body_length = wanted_.length + 1;
        place.tag = body + body_length;
        for (std::size_t at = 0; at < body_length;) {
            std::size_t part = body_length - at;
            if (wanted_.pieces) {
                part = std::min(part, kPieceLength - (at + kBodyOffset) % kPieceLength);
                if (wanted_.sealing) part = std::min(part, kPieceLength - at % kPieceLength);
            }
            const std::byte* from = wanted_.sealing ? place.content.data() + at : body + at;
            place.body.push_back({from, body + at, static_cast<std::uint32_t>(part)});
            at += part;
        }
    }
    void make_ciphertext() {
        const std::size_t record_length = places[0].record.size();
        for (std::size_t flow = 0; flow < keys.size(); ++flow) install(flow);
        if (wanted_.sealing) return;
        AeadBatch batch;
        const std::size_t records = wanted_.many_flows ? keys.size() : places.size();
        ciphertext_.resize(records * record_length);
        for (std::size_t i = 0; i < records; ++i) {
            const WritePiece to{ciphertext_.data() + i * record_length, static_cast<std::uint32_t>(record_length)};
            const ReadPiece from{places[0].content.data(), wanted_.length};
            const std::size_t flow = wanted_.many_flows ? i : 0;
            SALLYPORT_CHECK(batch.seal(protections[flow], ContentType::application_data, {&from, 1}, {&to, 1}));
            batch.flush();
        }
        for (std::size_t flow = 0; flow < keys.size(); ++flow) install(flow);
    }

    Case wanted_;
    const CipherSuite& suite_;
    std::vector<std::uint32_t> order_;
    std::vector<std::byte> ciphertext_;
    std::size_t next_ = 0;
};

/// Fetches what the record three places on needs of its flow, as the worker does (record_pump.cpp): a core has room for some twenty lines under way and
/// forgets what is asked for beyond that. At the first place, also what those before it need.
template <typename State>
void fetch_ahead(const std::vector<Place>& places, std::size_t at, const std::vector<State>& states) {
    constexpr std::size_t kAhead = 3;
    const auto fetch = [&](std::size_t place) {
        if (place >= places.size()) return;
        const char* const state = reinterpret_cast<const char*>(&states[places[place].flow]);
        for (std::size_t offset = 0; offset < sizeof(State); offset += 64) __builtin_prefetch(state + offset);
        __builtin_prefetch(state + sizeof(State) - 1);
    };
    if (at == 0)
        for (std::size_t place = 0; place < kAhead; ++place) fetch(place);
    fetch(at + kAhead);
}

class Ours {
 public:
    Ours(const Case& wanted, Workload& work) : wanted_(wanted), work_(work) {}
    void run() {
        const RecordHeader header{ContentType::application_data,
                                  static_cast<std::uint16_t>(wanted_.length + 1 + kAeadTagLength)};
        for (std::size_t i = 0; i < work_.places.size(); ++i) {
            Place& place = work_.places[i];
            if (wanted_.many_flows) fetch_ahead(work_.places, i, work_.protections);
            RecordProtection& protection = work_.protections[place.flow];
            const bool queued = wanted_.sealing ? batch_.seal(protection, ContentType::application_data,
                                                              place.content_pieces, place.record_pieces,
                                                              wanted_.untouched ? AeadBatch::OctetBehind::untouched
                                                                                : AeadBatch::OctetBehind::free)
                                                : batch_.open(protection, header, place.fragment_pieces, &place.result);
            SALLYPORT_CHECK(queued);
        }
        batch_.flush();
    }
    void check() {
        for (Place& place : work_.places)
            SALLYPORT_CHECK(wanted_.sealing || (place.result.status == OpenResult::Status::ok &&
                                                place.result.content_length == wanted_.length));
        for (Place& place : work_.places) work_.install(place.flow);
    }

 private:
    Case wanted_;
    Workload& work_;
    AeadBatch batch_;
};

void make_nonce(const Place& place, const RawKey& key, std::uint8_t* nonce) {
    // In words: a loop over octets would stall the loads behind it and make the direct calls look slow.
    std::uint64_t low;
    std::memcpy(&low, key.iv.data() + 4, sizeof low);
    low ^= std::byteswap(place.sequence);
    std::memcpy(nonce, key.iv.data(), 4);
    std::memcpy(nonce + 4, &low, sizeof low);
}

std::array<std::byte, kRecordHeaderLength> make_header(std::size_t content_length) {
    const std::size_t length = content_length + 1 + kAeadTagLength;
    return {std::byte{23}, std::byte{3}, std::byte{3}, static_cast<std::byte>(length >> 8),
            static_cast<std::byte>(length)};
}

/// IPsec-MB with nothing around it but nonce, header and comparison of the tag.
class Raw {
 public:
    /// `keep`: every flow's expanded key.
    Raw(const Case& wanted, Workload& work, bool keep = false) : wanted_(wanted), work_(work), manager_(alloc_mb_mgr(0)), expanded_(keep ? work.keys.size() : 1), keep_(keep) {
        init_mb_mgr_auto(manager_, nullptr);
        const GcmFunctionsByKey gcm = fastest_gcm_functions(*manager_);
        functions_ = wanted_.suite == 0x1301 ? gcm.of_128 : gcm.of_256;
        if (keep || !wanted_.many_flows)
            for (std::size_t flow = 0; flow < expanded_.size(); ++flow) expand(work_.keys[flow], expanded_[flow].data);
    }
    ~Raw() { free_mb_mgr(manager_); }
    Raw(const Raw&) = delete;
    Raw& operator=(const Raw&) = delete;

    void run() {
        for (std::size_t i = 0; i < work_.places.size(); ++i) {
            Place& place = work_.places[i];
            if (wanted_.many_flows) {
                fetch_ahead(work_.places, i, work_.keys);
                if (keep_) fetch_ahead(work_.places, i, expanded_);
            }
            run(place);
        }
    }
    void run(Place& place) {
        if (wanted_.suite == 0x1303)
            chacha(place);
        else
            gcm(place);
    }
    void check() { SALLYPORT_CHECK(failed_ == 0); }

 private:
    void expand(const RawKey& key, gcm_key_data& to) {
        if (wanted_.suite != 0x1303) functions_.expand(key.key.data(), &to);
    }
    struct alignas(64) Expanded {
        gcm_key_data data;
    };
    void finish(Place& place, const std::uint8_t* tag) {
        if (wanted_.sealing)
            std::memcpy(place.tag, tag, kAeadTagLength);
        else
            failed_ += std::memcmp(place.tag, tag, kAeadTagLength) != 0;
    }
    void gcm(Place& place) {
        const RawKey& key = work_.keys[place.flow];
        gcm_key_data& expanded = expanded_[keep_ ? place.flow : 0].data;
        if (wanted_.many_flows && !keep_) expand(key, expanded);
        std::uint8_t nonce[kAeadNonceLength], tag[kAeadTagLength];
        make_nonce(place, key, nonce);
        const std::byte* header = header_.data();
        if (wanted_.sealing) std::memcpy(place.record.data(), header, kRecordHeaderLength);
        if (place.body.size() == 1) {
            const Span& body = place.body[0];
            (wanted_.sealing ? functions_.seal : functions_.open)(&expanded, &context_, raw(body.to), raw(body.from), body.length, nonce, raw(header),
                                                                  kRecordHeaderLength, tag, sizeof tag);
        } else {
            functions_.init(&expanded, &context_, nonce, raw(header), kRecordHeaderLength);
            for (const Span& part : place.body)
                (wanted_.sealing ? functions_.seal_update : functions_.open_update)(&expanded, &context_, raw(part.to), raw(part.from), part.length);
            functions_.seal_finalize(&expanded, &context_, tag, sizeof tag);
        }
        finish(place, tag);
    }
    void chacha(Place& place) {
        const RawKey& key = work_.keys[place.flow];
        std::uint8_t nonce[kAeadNonceLength], tag[kAeadTagLength];
        make_nonce(place, key, nonce);
        const std::byte* header = header_.data();
        if (wanted_.sealing) std::memcpy(place.record.data(), header, kRecordHeaderLength);
        IMB_CHACHA20_POLY1305_INIT(manager_, key.key.data(), &chacha_context_, nonce, header, kRecordHeaderLength);
        for (const Span& part : place.body) {
            if (wanted_.sealing)
                IMB_CHACHA20_POLY1305_ENC_UPDATE(manager_, key.key.data(), &chacha_context_, part.to, part.from, part.length);
            else
                IMB_CHACHA20_POLY1305_DEC_UPDATE(manager_, key.key.data(), &chacha_context_, part.to, part.from, part.length);
        }
        IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager_, &chacha_context_, tag, sizeof tag);
        finish(place, tag);
    }

    Case wanted_;
    Workload& work_;
    std::array<std::byte, kRecordHeaderLength> header_ = make_header(wanted_.length);
    IMB_MGR* manager_;
    GcmFunctions functions_{};
    std::vector<Expanded> expanded_;
    const bool keep_;
    alignas(64) gcm_context_data context_{};
    alignas(64) chacha20_poly1305_context_data chacha_context_{};
    int failed_ = 0;
};

/// The same with a key of each flow that is never expanded again: 126 MB of them.
class Kept : public Raw {
 public:
    Kept(const Case& wanted, Workload& work) : Raw(wanted, work, true) {}
};

class Evp {
 public:
    Evp(const Case& wanted, Workload& work) : wanted_(wanted), work_(work) {
        const char* name = wanted.suite == 0x1301   ? "AES-128-GCM"
                           : wanted.suite == 0x1302 ? "AES-256-GCM"
                                                    : "ChaCha20-Poly1305";
        cipher_.reset(EVP_CIPHER_fetch(nullptr, name, nullptr));
        SALLYPORT_CHECK(EVP_CipherInit_ex2(context_.get(), cipher_.get(), raw(work_.keys[0].key.data()), nullptr,
                                           wanted.sealing ? 1 : 0, nullptr) == 1);
    }
    void run() {
        for (Place& place : work_.places) {
            const RawKey& key = work_.keys[place.flow];
            std::uint8_t nonce[kAeadNonceLength], rest[16];
            make_nonce(place, key, nonce);
            const std::byte* header = header_.data();
            if (wanted_.sealing) std::memcpy(place.record.data(), header, kRecordHeaderLength);
            int length = 0;
            bool good = EVP_CipherInit_ex2(context_.get(), nullptr, wanted_.many_flows ? raw(key.key.data()) : nullptr,
                                           nonce, -1, nullptr) == 1;
            if (!wanted_.sealing)
                good &= EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, kAeadTagLength, place.tag) == 1;
            good &= EVP_CipherUpdate(context_.get(), nullptr, &length, raw(header), kRecordHeaderLength) == 1;
            for (const Span& part : place.body)
                good &= EVP_CipherUpdate(context_.get(), raw(part.to), &length, raw(part.from),
                                         static_cast<int>(part.length)) == 1;
            good &= EVP_CipherFinal_ex(context_.get(), rest, &length) == 1;
            if (wanted_.sealing)
                good &= EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kAeadTagLength, place.tag) == 1;
            failed_ += !good;
        }
    }
    void check() { SALLYPORT_CHECK(failed_ == 0); }

 private:
    Case wanted_;
    Workload& work_;
    std::array<std::byte, kRecordHeaderLength> header_ = make_header(wanted_.length);
    std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher_{nullptr, EVP_CIPHER_free};
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context_{EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free};
    int failed_ = 0;
};

double tsc_hz() {
    static const double hz = [] {
        using Clock = std::chrono::steady_clock;
        const auto start = Clock::now();
        const std::uint64_t tsc = __rdtsc();
        while (Clock::now() - start < std::chrono::milliseconds(100)) {}
        const std::uint64_t cycles = __rdtsc() - tsc;
        return static_cast<double>(cycles) / std::chrono::duration<double>(Clock::now() - start).count();
    }();
    return hz;
}

template <typename Engine>
void measure(benchmark::State& state, const Case& wanted) {
    Workload work(wanted);
    Engine engine(wanted, work);
    std::vector<std::uint64_t> batches;
    for ([[maybe_unused]] auto _ : state) {
        work.prepare();
        const std::uint64_t start = __rdtsc();
        engine.run();
        const std::uint64_t spent = __rdtsc() - start;
        engine.check();
        batches.push_back(spent);
        state.SetIterationTime(static_cast<double>(spent) / tsc_hz());
    }
    const auto per_batch = static_cast<double>(work.places.size());
    state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<double>(state.iterations()) * per_batch * wanted.length));
    // The median: whoever else runs on the machine takes whole batches away, and belongs to nobody's figure.
    const auto middle = batches.begin() + static_cast<std::ptrdiff_t>(batches.size() / 2);
    std::ranges::nth_element(batches, middle);
    state.counters["cycles/record"] = static_cast<double>(*middle) / per_batch;
}

/// Remembers the best cycles of each program and case, for the table at the end.
class Table : public benchmark::ConsoleReporter {
 public:
    Table() : ConsoleReporter(OO_Tabular) {}
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.run_type != Run::RT_Iteration || run.skipped != benchmark::internal::NotSkipped) continue;
            const std::string& name = run.run_name.function_name;
            const auto slash = name.find('/');
            double& best = best_[name.substr(slash + 1)][name.substr(0, slash)];
            const double cycles = run.counters.at("cycles/record");
            best = best == 0 ? cycles : std::min(best, cycles);
        }
    }
    void print(const std::vector<Case>& cases) const {
        std::printf("\nmedian batch of the best repetition; TSC at %.2f GHz; ratio = speed of ours to that of the other\n", tsc_hz() / 1e9);
        std::printf("%-60s %9s | %8s %8s %8s %8s | %8s %8s %9s\n", "TLS 1.3 record, octets of content", "ours GB/s",
                    "ours cyc", "raw cyc", "EVP cyc", "kept cyc", "ours/raw", "ours/EVP", "ours/kept");
        for (const Case& wanted : cases) {
            const auto found = best_.find(wanted.name());
            if (found == best_.end()) continue;
            const auto cycles = [&](const char* program) {
                const auto at = found->second.find(program);
                return at == found->second.end() ? 0.0 : at->second;
            };
            const double ours = cycles("ours"), raw_calls = cycles("raw"), evp = cycles("evp"), kept = cycles("kept");
            std::printf("%-60s %9.2f | %8.0f %8.0f %8.0f %8.0f | %7.1f%% %7.1f%% %8.1f%%\n", wanted.name().c_str(),
                        wanted.length / (ours / tsc_hz()) / 1e9, ours, raw_calls, evp, kept, 100 * raw_calls / ours,
                        100 * evp / ours, 100 * kept / ours);
        }
    }

 private:
    std::map<std::string, std::map<std::string, double>> best_;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const std::uint16_t suite : {0x1301, 0x1302, 0x1303})
        for (const bool sealing : {false, true}) {
            cases.push_back({suite, sealing, 16384, false, false});
            cases.push_back({suite, sealing, 16384, true, false});
            cases.push_back({suite, sealing, 1400, false, false});
            cases.push_back({suite, sealing, 64, false, false});
            cases.push_back({suite, sealing, 1400, false, true});
            cases.push_back({suite, sealing, 64, false, true});
            if (sealing) {
                cases.push_back({suite, sealing, 16384, true, false, true});
                cases.push_back({suite, sealing, 1400, false, false, true});
                cases.push_back({suite, sealing, 64, false, false, true});
            }
        }
    return cases;
}

}  // namespace
}  // namespace sallyport::crypto

int main(int argc, char** argv) {
    using namespace sallyport::crypto;
    // Ours first, so that the command line can say otherwise.
    std::vector<std::string> options{argv[0], "--benchmark_repetitions=7", "--benchmark_min_time=0.02s",
                                     "--benchmark_enable_random_interleaving=true"};
    options.insert(options.end(), argv + 1, argv + argc);
    std::vector<char*> arguments;
    for (std::string& option : options) arguments.push_back(option.data());
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

    const std::vector<Case> cases = all_cases();
    for (const Case& wanted : cases) {
        const auto add = [&](const char* program, void (*run)(benchmark::State&, const Case&)) {
            benchmark::RegisterBenchmark(program + ("/" + wanted.name()), run, wanted)->UseManualTime();
        };
        add("ours", measure<Ours>);
        add("raw", measure<Raw>);
        add("evp", measure<Evp>);
        if (wanted.many_flows && wanted.suite != 0x1303) add("kept", measure<Kept>);   // ChaCha20 expands nothing
    }
    Table table;
    benchmark::RunSpecifiedBenchmarks(&table);
    table.print(cases);
    return 0;
}
