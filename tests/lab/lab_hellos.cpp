// Connections for the lab that cost a terminator much and this process little: each is opened, says the same ClientHello as all the others (which a server answers with
// its share of the key exchange, its certificate and a signature) and is reset at the first octet of the answer. Or each is opened and closed, with nothing said.
//
//     lab_hellos --to 192.0.2.1:443 --name www.example.com --rate 5000        a flood of handshakes that nobody finishes
//     lab_hellos --to 192.0.2.1:443 --silent --at-once 64                     as many as the other side accepts
//
// Says `ready` when it begins and, when it is told to end, what became of them as JSON.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/lab/end_signal.h"

namespace sallyport::lab {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;
constexpr auto kPatience = 2s;   // for an answer

/// Of a client that speaks TLS 1.3 with X25519, as one record.
std::string client_hello(const std::string& name) {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(context ? SSL_new(context.get()) : nullptr, &SSL_free);
    BIO* const out = BIO_new(BIO_s_mem());
    if (!ssl || out == nullptr || SSL_set1_groups_list(ssl.get(), "X25519") != 1 || SSL_set_min_proto_version(ssl.get(), TLS1_3_VERSION) != 1 ||
        SSL_set_tlsext_host_name(ssl.get(), name.c_str()) != 1)
        throw std::runtime_error("no ClientHello could be made");
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);
    SSL_set_connect_state(ssl.get());
    static_cast<void>(SSL_do_handshake(ssl.get()));   // it wants the answer now
    char* data = nullptr;
    const long length = BIO_get_mem_data(out, &data);
    if (length <= 0) throw std::runtime_error("no ClientHello was made");
    return {data, static_cast<std::size_t>(length)};
}

struct Options {
    sockaddr_in to{};
    std::string hello;       ///< empty: nothing is said
    double rate = 0;         ///< connections begun a second; 0: another as soon as one has ended
    std::size_t at_once = 0;
};

class Connections {
 public:
    explicit Connections(Options options) : options_(std::move(options)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
    ~Connections() {
        for (std::size_t descriptor = 0; descriptor < open_.size(); ++descriptor)
            if (open_[descriptor] != 0) ::close(static_cast<int>(descriptor));
        ::close(epoll_);
    }
    Connections(const Connections&) = delete;
    Connections& operator=(const Connections&) = delete;

    /// Until `ended` can be read.
    void run(int ended) {
        epoll_event stop{.events = EPOLLIN, .data = {.fd = ended}};
        epoll_ctl(epoll_, EPOLL_CTL_ADD, ended, &stop);
        begun_ = Clock::now();
        std::array<epoll_event, 256> events;
        for (;;) {
            const auto now = Clock::now();
            begin(now);
            give_up(now);
            const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1);
            for (int i = 0; i < count; ++i) {
                const auto& event = events[static_cast<std::size_t>(i)];
                if (event.data.fd == ended) return;
                look_at(event.data.fd, event.events);
            }
        }
    }
    void report() const {
        const double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
        std::cout << "{\"begun\": " << number_ << ", \"opened\": " << opened_ << ", \"answered\": " << answered_ << ", \"refused\": " << refused_ << ", \"unanswered\": "
                  << unanswered_ << ", \"left_out\": " << left_out_ << ", \"seconds\": " << seconds << "}" << std::endl;
    }

 private:
    void begin(Clock::time_point now) {
        if (options_.rate == 0) {
            while (now_open_ < options_.at_once && begin_one(now)) {}
            return;
        }
        const auto due = static_cast<std::uint64_t>(std::chrono::duration<double>(now - begun_).count() * options_.rate);
        while (number_ + left_out_ < due)
            if (now_open_ >= options_.at_once || !begin_one(now)) ++left_out_;   // the rate is kept: what cannot be begun in time never is
    }
    bool begin_one(Clock::time_point now) {
        const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (descriptor < 0) return false;
        const int on = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(descriptor, reinterpret_cast<const sockaddr*>(&options_.to), sizeof options_.to) != 0 && errno != EINPROGRESS) {
            ::close(descriptor);
            return false;
        }
        epoll_event event{.events = EPOLLOUT, .data = {.fd = descriptor}};
        epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
        const auto at = static_cast<std::size_t>(descriptor);
        if (open_.size() <= at) open_.resize(at + 1);
        open_[at] = ++number_;
        ages_.push_back({now, descriptor, number_});
        ++now_open_;
        return true;
    }
    void look_at(int descriptor, std::uint32_t events) {
        if ((events & EPOLLERR) != 0) {
            ++refused_;
            return close(descriptor, false);
        }
        if ((events & EPOLLOUT) != 0) {
            ++opened_;
            if (options_.hello.empty()) return close(descriptor, false);
            if (send(descriptor, options_.hello.data(), options_.hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(options_.hello.size())) {
                ++refused_;
                return close(descriptor, true);
            }
            epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
            epoll_ctl(epoll_, EPOLL_CTL_MOD, descriptor, &event);
            return;
        }
        char octet = 0;
        (recv(descriptor, &octet, 1, 0) == 1 ? answered_ : refused_)++;
        close(descriptor, true);
    }
    void close(int descriptor, bool reset) {
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        if (reset) setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        ::close(descriptor);
        open_[static_cast<std::size_t>(descriptor)] = 0;
        --now_open_;
    }
    void give_up(Clock::time_point now) {
        while (!ages_.empty() && now - ages_.front().begun > kPatience) {
            const auto [begun, descriptor, number] = ages_.front();
            ages_.pop_front();
            if (open_[static_cast<std::size_t>(descriptor)] != number) continue;
            ++unanswered_;
            close(descriptor, true);
        }
    }

    struct Age {
        Clock::time_point begun;
        int descriptor;
        std::uint64_t number;
    };
    Options options_;
    int epoll_;
    Clock::time_point begun_;
    std::vector<std::uint64_t> open_;   ///< by descriptor: the number of its connection; 0: none
    std::deque<Age> ages_;              ///< oldest first, those too that have ended
    std::size_t now_open_ = 0;
    std::uint64_t number_ = 0, opened_ = 0, answered_ = 0, refused_ = 0, unanswered_ = 0, left_out_ = 0;
};

int run(Options options) {
    // A descriptor for each.
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::max<rlim_t>(files.rlim_cur, options.at_once + 64);
    files.rlim_max = std::max(files.rlim_max, files.rlim_cur);
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) throw std::runtime_error("--at-once takes more files than this process may open");
    const int ended = end_signal();
    Connections connections(std::move(options));
    std::cout << "ready" << std::endl;
    connections.run(ended);
    connections.report();
    close(ended);
    return 0;
}

}  // namespace
}  // namespace sallyport::lab

int main(int argc, char** argv) {
    CLI::App app{"Connections that cost a terminator much and their maker little."};
    std::string to, name = "localhost";
    bool silent = false;
    sallyport::lab::Options options;
    options.at_once = 10'000;
    app.add_option("--to", to, "ADDRESS:PORT, IPv4")->required();
    app.add_option("--name", name, "that the ClientHello asks for");
    app.add_flag("--silent", silent, "say nothing: open and close");
    app.add_option("--rate", options.rate, "connections a second, whether they are answered or not; 0: another as soon as one has ended")->check(CLI::NonNegativeNumber);
    app.add_option("--at-once", options.at_once, "at most so many are open")->check(CLI::Range(1, 500'000));
    CLI11_PARSE(app, argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    try {
        const std::size_t colon = to.rfind(':');
        options.to.sin_family = AF_INET;
        if (colon == std::string::npos || inet_pton(AF_INET, to.substr(0, colon).c_str(), &options.to.sin_addr) != 1) throw std::invalid_argument(to + " is no ADDRESS:PORT");
        options.to.sin_port = htons(static_cast<std::uint16_t>(std::stoul(to.substr(colon + 1))));
        if (!silent) options.hello = sallyport::lab::client_hello(name);
        return sallyport::lab::run(std::move(options));
    } catch (const std::exception& error) {
        std::cerr << "lab_hellos: " << error.what() << '\n';
        return 2;
    }
}
