#include "control/revocation/watcher.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <shared_mutex>
#include <stop_token>
#include <string_view>
#include <thread>

#include "control/certificates/pem_file.h"
#include "control/revocation/asn1_time.h"
#include "control/revocation/fetch.h"
#include "control/revocation/own_answers.h"
#include "control/revocation/own_certificate.h"
#include "control/revocation/store.h"

namespace sallyport::revocation {

namespace {

using std::chrono::seconds;

constexpr seconds kFirstRetry{30};
constexpr seconds kLastRetry{3600};
constexpr seconds kFileLook{30};          ///< how often a CRL's file is looked at
constexpr seconds kShortest{30};          ///< no source is asked more often, however short-lived what it says
constexpr seconds kBetweenTurns{1};       ///< with kFetchesPerTurn: at most so many fetches a second
constexpr seconds kHostRetry{30};
constexpr seconds kHostLastRetry{600};
constexpr int kFetchesPerTurn = 32;
/// After so many failures in a row a host is left alone for a while: 10,000 certificates of one dead responder would else wait for
/// 10,000 timeouts, and with them all others.
constexpr int kHostFailures = 3;

/// Doubled with each failure.
seconds back_off(seconds first, seconds last, std::uint64_t failures) {
    return std::min(last, first * (1 << std::min<std::uint64_t>(failures - 1, 10)));
}

struct Own {
    std::shared_ptr<const certificates::CertificateChain> chain{};
    Fingerprint fingerprint{};
    openssl::Certificate issuer{};
    OwnStatus status{};
    std::shared_ptr<const Octets> staple{};
    std::string stored_as{};
    std::uint64_t failures = 0;   ///< in a row
};

/// A CRL that is fetched or read, and whom it may be of.
struct Source {
    CrlStatus status{};
    bool is_file = false;
    std::shared_ptr<CrlSet> set{};
    std::vector<openssl::Certificate> issuers{};
    std::string stored_as{};
    std::filesystem::file_time_type changed{};
    std::uintmax_t size = 0;
    std::uint64_t failures = 0;
};

struct Host {
    std::uint64_t failures = 0;
    Clock::time_point not_before{};
};

}  // namespace

struct Watcher::State {
    configuration::Revocation settings;
    Fetch fetch;
    Store store;
    /// Guards the statuses for reports; never held over a fetch or a verification. `turning` serialises turns: only they write, so they may
    /// read without `mutex`.
    mutable std::shared_mutex mutex;
    std::mutex turning;
    std::vector<Own> owns;
    std::vector<Source> sources;
    std::set<Fingerprint> known;   ///< of owns
    std::shared_ptr<OwnAnswers> answers = std::make_shared<OwnAnswers>();
    std::vector<std::shared_ptr<CrlSet>> pools, services;
    std::shared_ptr<CrlSet> own_crls = std::make_shared<CrlSet>();
    std::map<std::string, Host> hosts;
    std::mt19937_64 random{std::random_device{}()};
    std::function<void()> changed;
    std::mutex waiting;
    std::condition_variable_any wake;
    std::jthread thread;
    std::stop_token stopping;
    std::atomic<bool> all_due{false};
    std::mutex writing;            ///< held over a write to the store
    bool stopped = false;          ///< under `writing`

    State(const configuration::Configuration& configuration, Fetch fetch_with)
        : settings(configuration.revocation),
          fetch(std::move(fetch_with)),
          store(configuration.state_directory, configuration.revocation.max_octets) {}

    /// Within ten per cent, so that what was fetched together is not fetched together for ever.
    seconds jitter(seconds about) {
        return std::chrono::duration_cast<seconds>(about * std::uniform_real_distribution<double>(0.9, 1.1)(random));
    }
    Clock::time_point retry(Clock::time_point now, std::uint64_t failures) {
        return now + jitter(back_off(kFirstRetry, kLastRetry, failures));
    }
    /// Half of the life of what we have; when that has passed already (responders hand out old answers), half of what remains.
    Clock::time_point refresh(Clock::time_point since, Clock::time_point until, Clock::time_point now) {
        const auto half = [this](auto life) { return jitter(std::chrono::duration_cast<seconds>(life) / 2); };
        Clock::time_point due = since + half(until - since);
        if (due <= now) due = now + half(std::max(until - now, Clock::duration::zero()));
        return std::max(due, now + kShortest);
    }

    std::expected<Octets, std::string> fetch_from(const std::string& url, std::span<const std::byte> post) {
        return fetch(url, post, "application/ocsp-request");
    }
    /// After each fetch. What a host answers and cannot be used counts like no answer: verifying it costs more than waiting for none.
    void judge_host(const std::string& url, bool usable, Clock::time_point now) {
        Host& host = hosts[host_of(url)];
        if (usable)
            host = {};
        else if (++host.failures >= kHostFailures)
            host.not_before = now + jitter(back_off(kHostRetry, kHostLastRetry, host.failures - kHostFailures + 1));
    }
    /// Empty: written, or not to be written any more.
    [[nodiscard]] std::string save(const std::string& name, std::span<const std::byte> octets) {
        const std::lock_guard lock(writing);
        return stopped ? "" : store.save(name, octets);
    }
    void publish(const Own& own) { answers->set(own.fingerprint, own.staple, own.status.standing == Standing::revoked); }
    [[nodiscard]] std::optional<Clock::time_point> shunned_until(const std::string& url, Clock::time_point now) const {
        const auto host = hosts.find(host_of(url));
        if (host == hosts.end() || host->second.not_before <= now) return std::nullopt;
        return host->second.not_before;
    }

    void add_own(const configuration::CertificateFiles& files, std::span<X509* const> candidates, X509_STORE* roots);
    void add_sources(const std::string& domain, const std::vector<configuration::CrlSource>& crls,
                     const std::vector<std::shared_ptr<X509>>& anchors, const std::vector<std::filesystem::path>& trust,
                     const std::shared_ptr<CrlSet>& set);
    bool take_answer(Own& own, Octets answer, const Verdict& verdict, Clock::time_point now);
    void refresh_own(Own& own, Clock::time_point now);
    std::string take_crl(Source& source, std::span<const std::byte> octets, Clock::time_point now, bool& changed);
    bool refresh_url(Source& source, Clock::time_point now);
    bool refresh_file(Source& source, Clock::time_point now);
    bool judge_by_crls(Clock::time_point now);
};

void Watcher::State::add_own(const configuration::CertificateFiles& files, std::span<X509* const> candidates,
                             X509_STORE* roots) {
    if (!files.chain || !files.chain->leaf) return;
    const Fingerprint fingerprint = files.chain->fingerprint != Fingerprint{} ? files.chain->fingerprint : fingerprint_of(files.chain->leaf.get());
    if (!known.insert(fingerprint).second) return;

    Own own{.chain = files.chain, .fingerprint = fingerprint, .issuer = issuer_of(*files.chain, candidates, roots), .stored_as = "ocsp-" + hex(fingerprint)};
    Decision decision = decide(*files.chain);
    own.status.subject = files.chain->subject();
    own.status.file = files.certificate.string();
    own.status.rule = decision.rule;
    own.status.must_staple = files.chain->must_staple;
    own.status.url = std::move(decision.url);
    own.status.why = std::move(decision.why);
    const bool asks = decision.rule == Rule::staple || decision.rule == Rule::crl;
    if (decision.rule == Rule::short_lived) own.status.standing = Standing::good;
    if (asks && !own.issuer)
        own.status.why = "its issuer's certificate is not known; append it to " + own.status.file;
    else if (asks)
        own.status.why = "not asked yet";
    if (asks && own.issuer && decision.rule == Rule::crl) {
        auto source = std::ranges::find_if(sources, [&](const Source& have) {
            return have.set == own_crls && have.status.source == own.status.url;
        });
        if (source == sources.end()) {
            sources.push_back({.status = {.domain = "own certificates", .source = own.status.url}, .set = own_crls});
            source = std::prev(sources.end());
        }
        if (std::ranges::none_of(source->issuers, [&](const auto& have) { return X509_cmp(have.get(), own.issuer.get()) == 0; }))
            source->issuers.push_back(openssl::share(own.issuer.get()));
    }
    owns.push_back(std::move(own));
}

void Watcher::State::add_sources(const std::string& domain, const std::vector<configuration::CrlSource>& crls,
                                 const std::vector<std::shared_ptr<X509>>& anchors,
                                 const std::vector<std::filesystem::path>& trust, const std::shared_ptr<CrlSet>& set) {
    for (const configuration::CrlSource& crl : crls) {
        Source source{.status = {.domain = domain, .source = crl.url.empty() ? crl.file.string() : crl.url}, .set = set};
        source.is_file = crl.url.empty();
        const auto add = [&source](X509* issuer) {
            const auto same = [issuer](const openssl::Certificate& have) { return X509_cmp(have.get(), issuer) == 0; };
            if (std::ranges::none_of(source.issuers, same)) source.issuers.push_back(openssl::share(issuer));
        };
        for (const auto& anchor : anchors) add(anchor.get());
        // Intermediates may stand in the files too. What is no CA of ours cannot forge: add() asks for the issuer's name and signature,
        // and check() for the issuer's key.
        for (const auto& file : trust)
            if (auto certificates = certificates::read_certificates(file))
                for (const auto& certificate : *certificates) add(certificate.get());
        sources.push_back(std::move(source));
    }
}

/// What an answer about a certificate says.
static Verdict judge(const Own& own, std::span<const std::byte> answer, Clock::time_point now) {
    if (answer.size() > kMostOcspOctets) return {.why = "the OCSP answer is longer than " + std::to_string(kMostOcspOctets) + " octets"};
    return check_ocsp(answer, own.chain->leaf.get(), own.issuer.get(), now);
}

/// Under `mutex`. Whether the answer, of which `verdict` is, counts; the status says why not.
bool Watcher::State::take_answer(Own& own, Octets answer, const Verdict& verdict, Clock::time_point now) {
    OwnStatus& status = own.status;
    status.why = verdict.why;
    if (verdict.standing == Standing::unknown) return false;
    if (verdict.since < status.this_update) {
        // A hold may end, but not by an answer from before it.
        status.why = "the responder answers with what is older (" + time_text(verdict.since) + ") than the answer at hand (" +
                     time_text(status.this_update) + ")";
        return false;
    }
    status.standing = verdict.standing;
    status.this_update = verdict.since;
    status.next_update = verdict.until;
    status.next_attempt = refresh(verdict.since, verdict.until, now);
    own.staple = verdict.standing == Standing::good ? std::make_shared<const Octets>(std::move(answer)) : nullptr;
    publish(own);
    return true;
}

void Watcher::State::refresh_own(Own& own, Clock::time_point now) {
    const Octets request = ocsp_request(own.chain->leaf.get(), own.issuer.get());
    auto answer = fetch_from(own.status.url, request);
    const Verdict verdict = answer ? judge(own, *answer, now) : Verdict{};
    std::string not_stored;
    bool taken = false;
    std::optional<Octets> copy;
    {
        const std::unique_lock lock(mutex);
        own.status.last_attempt = now;
        if (answer) {
            copy = *answer;
            taken = take_answer(own, std::move(*answer), verdict, now);
        } else {
            own.status.why = answer.error();
        }
        if (taken) {
            own.failures = 0;
            ++own.status.fetched;
        } else {
            ++own.status.failed;
            own.status.next_attempt = retry(now, ++own.failures);
        }
    }
    judge_host(own.status.url, taken, now);
    if (taken) not_stored = save(own.stored_as, *copy);
    if (!not_stored.empty()) {
        const std::unique_lock lock(mutex);
        own.status.why += "; not kept for a restart: " + not_stored;
    }
}

/// Takes a CRL, or the CRLs of a PEM file; the first thing wrong, or empty. The source's next_update becomes the nearest of them.
/// `changed` becomes true when one of them was not there before.
std::string Watcher::State::take_crl(Source& source, std::span<const std::byte> octets, Clock::time_point now, bool& changed_any) {
    constexpr std::string_view kEnd = "-----END X509 CRL-----";
    std::string_view text(reinterpret_cast<const char*>(octets.data()), octets.size());
    std::string wrong;
    std::optional<Clock::time_point> nearest;
    const auto take = [&](std::span<const std::byte> crl) {
        std::string why = "none of the trust anchors could be its issuer";
        for (const auto& issuer : source.issuers) {
            Clock::time_point next_update{};
            std::string answer = source.set->add(crl, issuer.get(), now, &next_update, &changed_any);
            if (answer.empty()) {
                nearest = std::min(nearest.value_or(next_update), next_update);
                return;
            }
            // The most telling of the issuers' answers: not 'is of another issuer' when one has the name.
            if (why.starts_with("none") || why.contains("of another issuer")) why = std::move(answer);
        }
        if (wrong.empty()) wrong = std::move(why);
    };
    if (text.contains("-----BEGIN ")) {
        std::size_t begin = 0;
        for (std::size_t end = 0; (end = text.find(kEnd, begin)) != std::string_view::npos; begin = end + kEnd.size())
            take(octets.subspan(begin, end + kEnd.size() - begin));
        if (begin == 0) wrong = "no CRL in it (X509 CRL in PEM)";
    } else {
        take(octets);
    }
    if (nearest) {
        const std::unique_lock lock(mutex);
        source.status.next_update = *nearest;
    }
    return wrong;
}

bool Watcher::State::refresh_url(Source& source, Clock::time_point now) {
    auto answer = fetch_from(source.status.source, {});
    bool change = false;
    std::string wrong = answer ? take_crl(source, *answer, now, change) : answer.error();
    const bool taken = wrong.empty();
    judge_host(source.status.source, taken, now);
    if (taken) {
        if (std::string not_stored = save(source.stored_as, *answer); !not_stored.empty())
            wrong = "not kept for a restart: " + not_stored;
    }
    const std::unique_lock lock(mutex);
    source.status.last_attempt = now;
    // What it lists counts, but a server that hands out what is stale is one that fails: back off, and tell.
    const bool stale = taken && source.status.next_update <= now;
    if (stale) wrong = "the CRL is stale since " + time_text(source.status.next_update);
    source.status.why = std::move(wrong);
    if (!taken || stale) {
        ++source.status.failed;
        source.status.next_attempt = retry(now, ++source.failures);
        return change;
    }
    source.failures = 0;
    ++source.status.fetched;
    const auto remaining = std::chrono::duration_cast<seconds>(source.status.next_update - now) / 2;
    const seconds wait = std::clamp(remaining, kShortest, std::max(kShortest, seconds(settings.crl_poll_s)));
    source.status.next_attempt = now + jitter(wait);
    return change;
}

bool Watcher::State::refresh_file(Source& source, Clock::time_point now) {
    std::error_code error;
    const auto changed_at = std::filesystem::last_write_time(source.status.source, error);
    const auto size = error ? 0 : std::filesystem::file_size(source.status.source, error);
    if (!error && changed_at == source.changed && size == source.size) {
        const std::unique_lock lock(mutex);
        source.status.next_attempt = now + kFileLook;
        return false;
    }
    const auto octets = read_file(source.status.source, settings.max_octets);
    bool change = false;
    std::string wrong = octets ? take_crl(source, *octets, now, change) : octets.error();
    const std::unique_lock lock(mutex);
    source.status.last_attempt = now;
    source.status.next_attempt = now + kFileLook;
    source.status.why = std::move(wrong);
    if (!octets) {
        ++source.status.failed;
        return false;
    }
    source.changed = changed_at;
    source.size = size;
    ++(source.status.why.empty() ? source.status.fetched : source.status.failed);
    return change;
}

/// Own certificates by CRL, and staples that have run out. Whether anything changed.
bool Watcher::State::judge_by_crls(Clock::time_point now) {
    bool change = false;
    for (Own& own : owns) {
        if (!own.issuer) continue;
        OwnStatus& status = own.status;
        if (status.rule == Rule::crl) {
            Verdict verdict = own_crls->check(own.chain->leaf.get(), own.issuer.get(), now);
            const std::unique_lock lock(mutex);
            change |= status.standing != verdict.standing;
            status.standing = verdict.standing;
            status.why = std::move(verdict.why);
            status.this_update = verdict.since;
            status.next_update = verdict.until;
            publish(own);
        } else if (own.staple && status.next_update <= now) {
            const std::unique_lock lock(mutex);
            own.staple = nullptr;
            status.standing = Standing::unknown;
            status.why = "the staple is stale since " + time_text(status.next_update) + "; last attempt: " + status.why;
            publish(own);
            change = true;
        }
    }
    return change;
}

Watcher::Watcher(const configuration::Configuration& configuration, Fetch fetch, Clock::time_point now)
    : state_(std::make_unique<State>(configuration, std::move(fetch))) {
    State& state = *state_;
    std::vector<X509*> candidates;
    const openssl::Store roots(X509_STORE_new());
    if (roots) X509_STORE_load_path(roots.get(), configuration.public_roots.c_str());
    ERR_clear_error();
    for (const auto& pool : configuration.pools)
        if (pool.tls)
            for (const auto& anchor : pool.tls->anchors) candidates.push_back(anchor.get());
    for (const auto& service : configuration.services)
        for (const auto& anchor : service.client_auth.anchors) candidates.push_back(anchor.get());

    for (const auto& pool : configuration.pools) {
        state.pools.push_back(std::make_shared<CrlSet>());
        if (!pool.tls) continue;
        state.add_sources("pool " + pool.name, pool.tls->crl, pool.tls->anchors, pool.tls->trust, state.pools.back());
        if (pool.tls->identity) state.add_own(*pool.tls->identity, candidates, roots.get());
    }
    for (const auto& service : configuration.services) {
        state.services.push_back(std::make_shared<CrlSet>());
        const auto& auth = service.client_auth;
        state.add_sources("service " + service.name, auth.crl, auth.anchors, auth.trust, state.services.back());
        for (const auto& files : service.certificates) state.add_own(files, candidates, roots.get());
    }
    // What an earlier run has left; the file's name is a hash of whose it is.
    for (Own& own : state.owns) {
        if (own.status.rule != Rule::staple || !own.issuer) continue;
        if (auto answer = state.store.load(own.stored_as)) {
            const Verdict verdict = judge(own, *answer, now);
            if (!state.take_answer(own, std::move(*answer), verdict, now)) own.status.why = "not asked yet; stored: " + own.status.why;
        }
    }
    for (Source& source : state.sources) {
        if (source.is_file) {
            state.refresh_file(source, now);
            continue;
        }
        Fingerprint name{};
        const std::string key = source.status.domain + '\n' + source.status.source;
        EVP_Digest(key.data(), key.size(), name.data(), nullptr, EVP_sha256(), nullptr);
        source.stored_as = "crl-" + hex(name);
        bool change = false;
        if (const auto octets = state.store.load(source.stored_as))
            if (std::string wrong = state.take_crl(source, *octets, now, change); !wrong.empty())
                source.status.why = "not asked yet; stored: " + wrong;
    }
    state.judge_by_crls(now);
}

Watcher::~Watcher() {
    if (!state_->thread.joinable()) return;
    state_->thread.request_stop();
    state_->thread.join();
}

void Watcher::stop() {
    state_->thread.request_stop();
    const std::scoped_lock lock(state_->writing, state_->mutex);
    state_->stopped = true;
    state_->changed = nullptr;
}

void Watcher::start() {
    {
        std::set<std::string> stored;
        for (const Own& own : state_->owns) stored.insert(own.stored_as);
        for (const Source& source : state_->sources) stored.insert(source.stored_as);
        const std::lock_guard lock(state_->writing);
        state_->store.keep_only(stored);
    }
    state_->thread = std::jthread([this](const std::stop_token& stop) {
        {
            const std::lock_guard turning(state_->turning);
            state_->stopping = stop;
        }
        while (!stop.stop_requested()) {
            const Clock::time_point now = Clock::now();
            const auto wait = std::clamp<Clock::duration>(turn(now) - now, kBetweenTurns, kFileLook);
            std::unique_lock lock(state_->waiting);
            state_->wake.wait_for(lock, stop, wait, [this] { return state_->all_due.load(); });
        }
    });
}

void Watcher::refresh() {
    state_->all_due = true;
    const std::lock_guard lock(state_->waiting);   // else the thread may be about to wait
    state_->wake.notify_all();
}

Clock::time_point Watcher::turn(Clock::time_point now) {
    State& state = *state_;
    const std::lock_guard turning(state.turning);
    if (state.all_due.exchange(false)) {
        const std::unique_lock lock(state.mutex);
        state.hosts.clear();
        for (Source& source : state.sources) source.status.next_attempt = now;
        for (Own& own : state.owns) own.status.next_attempt = now;
    }
    bool change = false;
    int left = kFetchesPerTurn;
    const auto may_fetch = [&](const std::string& url, Clock::time_point& next_attempt, std::string& why) {
        if (state.stopping.stop_requested() || left == 0) return false;
        if (const auto until = state.shunned_until(url, now)) {
            const std::unique_lock lock(state.mutex);
            next_attempt = *until;
            why = host_of(url) + " has failed again and again; it is asked again at " + time_text(*until);
            return false;
        }
        --left;
        return true;
    };
    for (Source& source : state.sources) {
        if (source.status.next_attempt > now) continue;
        if (source.is_file)
            change |= state.refresh_file(source, now);
        else if (may_fetch(source.status.source, source.status.next_attempt, source.status.why))
            change |= state.refresh_url(source, now);
    }
    for (Own& own : state.owns) {
        if (own.status.rule != Rule::staple || !own.issuer || own.status.next_attempt > now) continue;
        if (!may_fetch(own.status.url, own.status.next_attempt, own.status.why)) continue;
        const Standing before = own.status.standing;
        const auto staple = own.staple;
        state.refresh_own(own, now);
        change |= before != own.status.standing || staple != own.staple;
    }
    change |= state.judge_by_crls(now);

    Clock::time_point next = now + kLastRetry;
    for (const Source& source : state.sources) next = std::min(next, source.status.next_attempt);
    for (const Own& own : state.owns)
        if (own.status.rule == Rule::staple && own.issuer) next = std::min(next, own.status.next_attempt);
    if (change) {
        std::function<void()> call;
        {
            const std::shared_lock lock(state.mutex);
            call = state.changed;
        }
        if (call) call();
    }
    return std::max(next, now + kBetweenTurns);
}

std::shared_ptr<const Octets> Watcher::staple(const certificates::CertificateChain& chain) const { return state_->answers->staple(chain); }
bool Watcher::revoked(const certificates::CertificateChain& chain) const { return state_->answers->revoked(chain); }
std::shared_ptr<const OwnAnswers> Watcher::answers() const { return state_->answers; }

std::shared_ptr<const CrlSet> Watcher::of_pool(std::size_t pool) const { return state_->pools.at(pool); }
std::shared_ptr<const CrlSet> Watcher::of_service(std::size_t service) const { return state_->services.at(service); }

std::vector<OwnStatus> Watcher::own() const {
    const std::shared_lock lock(state_->mutex);
    std::vector<OwnStatus> all;
    all.reserve(state_->owns.size());
    for (const Own& own : state_->owns) all.push_back(own.status);
    return all;
}

std::vector<CrlStatus> Watcher::crls() const {
    const std::shared_lock lock(state_->mutex);
    std::vector<CrlStatus> all;
    all.reserve(state_->sources.size());
    for (const Source& source : state_->sources) all.push_back(source.status);
    return all;
}

void Watcher::on_change(std::function<void()> call) {
    const std::unique_lock lock(state_->mutex);
    state_->changed = std::move(call);
}

}  // namespace sallyport::revocation
