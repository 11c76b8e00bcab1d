#include "control/telemetry/syslog_sink.h"

#include <linux/tcp.h>   // tcp_info with tcpi_bytes_acked, which netinet/tcp.h has not
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "control/daemon/logging.h"
#include "control/telemetry/tls.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

using namespace std::chrono_literals;

constexpr int kLocal0 = 16;              // RFC 5424 6.2.1
constexpr std::size_t kBatch = 64;
constexpr auto kConnect = 5s;            // TCP and TLS
constexpr auto kHangs = 10s;
constexpr std::chrono::milliseconds kRest = 60s, kSettle = 100ms;   // between two looks at the connection: without and with records under way
constexpr auto kFirstRetry = 1s, kLastRetry = 60s;

/// The address in the kernel's form.
socklen_t to_kernel(const SocketAddress& address, sockaddr_storage& storage) {
    if (address.address.is_v4()) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(address.port);
        std::memcpy(&v4.sin_addr, address.address.octets.data() + 12, 4);
        return sizeof v4;
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    std::memcpy(&v6.sin6_addr, address.address.octets.data(), 16);
    return sizeof v6;
}

std::string host_name() {
    char name[256] = {};
    if (gethostname(name, sizeof name - 1) != 0) return "";
    return name;
}

}  // namespace

std::string syslog_message(const Entry& entry, std::string_view host, int process) {
    std::string plain;
    std::ranges::copy_if(host.substr(0, 255), std::back_inserter(plain), [](char c) { return c > ' ' && c < 0x7f; });
    return sallyport::format("<{}>1 {} {} sallyport {} {} - {}", kLocal0 * 8 + entry.severity, iso8601_ms(entry.time), plain.empty() ? "-" : plain, process, entry.kind,
                             entry.json());
}

std::string syslog_frame(std::string_view message) { return sallyport::format("{} {}", message.size(), message); }

SyslogSink::SyslogSink(std::shared_ptr<SinkCounts> counts, Settings settings, openssl::Context context)
    : Sink(std::move(counts), settings.queue), settings_(std::move(settings)), context_(std::move(context)), host_(host_name()) {
    start("flow-log-syslog");
}

std::uint64_t SyslogSink::acknowledged() const {
    tcp_info info{};
    socklen_t size = sizeof info;
    // Of a connection that was reset too: the kernel keeps its counts until the socket closes.
    if (!socket_.valid() || getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
    return info.tcpi_bytes_acked;
}

void SyslogSink::settle() {
    if (under_way_.empty()) return;
    const std::uint64_t acked = acknowledged();
    while (!under_way_.empty() && acknowledged_at_start_ + under_way_.front().end <= acked) {
        counts().written += under_way_.front().records;
        under_way_.pop_front();
    }
}

void SyslogSink::disconnect() {
    settle();
    for (const UnderWay& each : under_way_) counts().lost += each.records;
    under_way_.clear();
    ssl_.reset();
    socket_.reset();
    ERR_clear_error();
}

/// The connection is gone, or was not to be had.
void SyslogSink::lose(const std::string& why) {
    if (trouble().empty()) daemon::log(daemon::Level::warning, "syslog_lost", {{"receiver", settings_.address.to_string()}, {"why", why}});
    disconnect();
    set_trouble(settings_.address.to_string() + ": " + why);
    static thread_local std::minstd_rand random{std::random_device{}()};
    const auto pause = std::min<std::chrono::milliseconds>(kFirstRetry * (1 << std::min(failures_, 6u)), kLastRetry);
    ++failures_;
    next_try_ = Clock::now() + pause * std::uniform_int_distribution<int>(80, 120)(random) / 100;
}

bool SyslogSink::may_try_again(int result, Clock::time_point until) {
    const int error = SSL_get_error(ssl_.get(), result);
    const bool reads = error == SSL_ERROR_WANT_READ;
    if (!reads && error != SSL_ERROR_WANT_WRITE) return false;
    while (true) {
        const auto now = Clock::now();
        const auto end = std::min(until, deadline());
        if (now >= end) {
            errno = ETIMEDOUT;
            return false;
        }
        // Woken by stop() too: grace shortens what is left. A wake-up for the queue is the next wait()'s, so it is not read here.
        pollfd fds{socket_.get(), static_cast<short>(reads ? POLLIN : POLLOUT), 0};
        const auto left = std::min<std::chrono::milliseconds>(std::chrono::ceil<std::chrono::milliseconds>(end - now), 200ms);
        if (poll(&fds, 1, static_cast<int>(left.count())) > 0) return true;
    }
}

std::string SyslogSink::connect() {
    const auto until = Clock::now() + kConnect;
    sockaddr_storage address{};
    const socklen_t length = to_kernel(settings_.address, address);
    socket_ = channel::Descriptor(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket_.valid()) return std::strerror(errno);
    const int one = 1;
    (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
        if (errno != EINPROGRESS) return std::strerror(errno);
        pollfd fds{socket_.get(), POLLOUT, 0};
        while (poll(&fds, 1, 200) <= 0)
            if (Clock::now() >= std::min(until, deadline())) return "no answer in time";
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return std::strerror(error);
    }
    acknowledged_at_start_ = acknowledged();
    ssl_ = prepare(context_.get(), settings_.server_name);
    if (!ssl_ || SSL_set_fd(ssl_.get(), socket_.get()) != 1) return openssl::error_queue();
    while (true) {
        ERR_clear_error();
        errno = 0;
        const int result = SSL_connect(ssl_.get());
        if (result == 1) return "";
        if (may_try_again(result, until)) continue;
        if (errno == ETIMEDOUT) return "its TLS handshake takes too long";
        if (const long verified = SSL_get_verify_result(ssl_.get()); verified != X509_V_OK)
            return std::string("its certificate could not be verified: ") + X509_verify_cert_error_string(verified);
        return "the TLS handshake failed: " + openssl::error_queue();
    }
}

bool SyslogSink::closed() {
    char nothing[256];
    ERR_clear_error();
    const int result = SSL_read(ssl_.get(), nothing, sizeof nothing);
    if (result > 0) return false;   // a receiver has nothing to say; what it says is passed over
    const int error = SSL_get_error(ssl_.get(), result);
    return error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
}

void SyslogSink::run() {
    while (!ending()) {
        if (!ssl_) {
            if (const auto now = Clock::now(); now < next_try_) {
                // Records that come meanwhile stay in the queue, and must not make us spin.
                pollfd fds{wake_fd(), POLLIN, 0};
                const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::min(next_try_, deadline()) - now);
                (void)poll(&fds, 1, static_cast<int>(std::clamp<std::int64_t>(std::min<std::int64_t>(left.count(), 200), 0, 200)));
                std::uint64_t count = 0;
                if ((fds.revents & POLLIN) != 0) [[maybe_unused]]
                    const ssize_t ignored = read(wake_fd(), &count, sizeof count);
                if (stopping()) break;   // nothing can be sent in time
                continue;
            }
            if (const std::string why = connect(); !why.empty()) {
                lose(why);
                continue;
            }
            failures_ = 0;
            set_trouble("");
            daemon::log(daemon::Level::info, "syslog_connected", {{"receiver", settings_.address.to_string()}, {"tls", SSL_get_version(ssl_.get())}});
        }
        settle();
        wait(Clock::now() + (under_way_.empty() ? kRest : kSettle), socket_.get());
        if (closed()) {
            lose("the receiver ended the connection");
            continue;
        }
        const std::vector<Entry> entries = take(kBatch);
        if (entries.empty()) continue;
        std::string frames;
        for (const Entry& entry : entries) frames += syslog_frame(syslog_message(entry, host_, getpid()));
        const auto until = Clock::now() + kHangs;
        while (true) {
            ERR_clear_error();
            errno = 0;
            std::size_t written = 0;
            const int result = SSL_write_ex(ssl_.get(), frames.data(), frames.size(), &written);   // all or nothing: partial writes are off
            if (result == 1) {
                under_way_.push_back({BIO_number_written(SSL_get_wbio(ssl_.get())), entries.size()});
                break;
            }
            if (may_try_again(result, until)) continue;
            counts().lost += entries.size();
            lose(errno == ETIMEDOUT ? "it takes nothing" : "the connection broke: " + openssl::error_queue());
            break;
        }
    }
    for (settle(); ssl_ && !under_way_.empty() && Clock::now() < deadline() && !closed(); settle()) std::this_thread::sleep_for(1ms);
    if (ssl_) (void)SSL_shutdown(ssl_.get());
    disconnect();
}

}  // namespace sallyport::telemetry
