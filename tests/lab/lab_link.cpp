// A link with faults to order: carries Ethernet frames between two interfaces both ways, and loses, delays, reorders, doubles and spoils
// TCP segments on the way by a seed.
//
//     lab_link --ends client-inner,client-outer --seed 7 --loss 0.01 --delay-us 25000 --rate 100000000 --queue 1250000
//
// What it is told holds for both directions; --there or --back before `NAME=VALUE` changes one of them (there: from the first end to the
// second). Says `ready` when it carries frames, and its counts as JSON when it is told to end.

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/lab/end_signal.h"

namespace sallyport::lab {
namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Frame = std::vector<unsigned char>;

constexpr std::size_t kLongestFrame = ETH_HLEN + 1500 + 4;   // with one VLAN tag; a longer one means that an offload is on

/// Shares are of 1; times in microseconds.
struct Faults {
    double loss = 0;               // of segments, each by itself
    double burst = 0;              // chance that a burst of loss begins with a segment
    double burst_length = 5;       // its mean length in segments
    double duplicate = 0, corrupt = 0;
    double reorder = 0;            // of segments that are held back by reorder_us
    double reorder_us = 0;
    double delay_us = 0, jitter_us = 0;
    double rate = 0;               // bit/s on the wire; 0: no limit
    double queue = 1e6;            // octets that wait for the wire at most; more are dropped at the tail
};

double& setting(Faults& faults, const std::string& name) {
    static const std::map<std::string, double Faults::*> all{
        {"loss", &Faults::loss}, {"burst", &Faults::burst}, {"burst-length", &Faults::burst_length}, {"duplicate", &Faults::duplicate},
        {"corrupt", &Faults::corrupt}, {"reorder", &Faults::reorder}, {"reorder-us", &Faults::reorder_us}, {"delay-us", &Faults::delay_us},
        {"jitter-us", &Faults::jitter_us}, {"rate", &Faults::rate}, {"queue", &Faults::queue}};
    const auto found = all.find(name);
    if (found == all.end()) throw std::invalid_argument("no such setting: " + name);
    return faults.*(found->second);
}

struct Counts {
    std::uint64_t frames = 0, octets = 0, segments = 0, lost = 0, queue_full = 0, duplicated = 0, corrupted = 0, reordered = 0, sent = 0;
    std::uint64_t too_long = 0, not_sent = 0, missed = 0;   // faults of the lab's, not of the link: a test may ask that there were none
};

Clock::duration microseconds(double us) { return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::micro>(us)); }

/// Where a TCP segment begins, and a key of its connection that is the same in both directions; 0 when it is something else.
struct Segment {
    std::size_t at = 0;
    std::uint64_t connection = 0;
};

Segment segment_of(const Frame& frame) {
    const auto u16 = [&frame](std::size_t at) { return static_cast<std::uint32_t>(frame[at] << 8 | frame[at + 1]); };
    std::size_t at = 0, address = 0;
    if (frame.size() >= 54 && u16(12) == ETH_P_IP && frame[23] == IPPROTO_TCP) {
        at = 14 + (frame[14] & 15u) * 4u;
        address = 4;
    } else if (frame.size() >= 74 && u16(12) == ETH_P_IPV6 && frame[20] == IPPROTO_TCP) {
        at = 54;
        address = 16;
    }
    if (at == 0 || frame.size() < at + 20) return {};
    // The ephemeral port and the peers' lowest octets tell flows apart well enough for tests.
    const std::uint64_t a = u16(at) << 8 | frame[(address == 4 ? 26 : 22) + address - 1];
    const std::uint64_t b = u16(at + 2) << 8 | frame[(address == 4 ? 30 : 38) + address - 1];
    return {at, std::min(a, b) << 32 | std::max(a, b)};
}

/// A frame that is on its way.
struct Travelling {
    Time due;
    std::uint64_t number;   // frames due at the same time stay in order
    Frame frame;
    int to;
    std::size_t direction;
};
struct Later {
    bool operator()(const Travelling& a, const Travelling& b) const { return a.due != b.due ? a.due > b.due : a.number > b.number; }
};

/// One direction of one path: its wire, its faults, its own random numbers.
class Wire {
 public:
    Wire(const Faults& faults, std::uint64_t seed) : faults_(faults), random_(seed) {}

    /// When the frame arrives at the other end; none: lost. A second time: a copy.
    std::vector<Time> carry(Frame& frame, const Segment& segment, Time now, Counts& counts) {
        if (faults_.rate > 0) {
            constexpr double kFraming = 24;   // preamble, FCS and gap (IEEE 802.3 4.4.2)
            const double waiting = std::chrono::duration<double>(free_ - now).count() * faults_.rate / 8;
            if (waiting > faults_.queue) {
                ++counts.queue_full;
                return {};
            }
            const double octets = static_cast<double>(std::max<std::size_t>(frame.size(), 60)) + kFraming;
            free_ = std::max(free_, now) + microseconds(octets * 8e6 / faults_.rate);
        } else {
            free_ = now;
        }
        Time due = free_ + microseconds(faults_.delay_us + faults_.jitter_us * uniform());
        due = last_ = std::max(last_, due);   // jitter alone changes no order
        if (segment.at == 0) return {due};
        ++counts.segments;
        if (chance(faults_.loss) || in_burst()) {
            ++counts.lost;
            return {};
        }
        if (chance(faults_.corrupt)) {
            ++counts.corrupted;
            const auto bit = static_cast<std::size_t>(uniform() * static_cast<double>((frame.size() - ETH_HLEN) * 8));
            frame[ETH_HLEN + bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
        }
        if (chance(faults_.reorder)) {
            ++counts.reordered;
            due += microseconds(faults_.reorder_us);
        }
        if (!chance(faults_.duplicate)) return {due};
        ++counts.duplicated;
        return {due, due + microseconds(faults_.reorder_us)};
    }

 private:
    double uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }
    bool chance(double share) { return share > 0 && uniform() < share; }
    bool in_burst() {
        if (faults_.burst <= 0) return false;
        bursting_ = bursting_ ? !chance(1 / faults_.burst_length) : chance(faults_.burst);
        return bursting_;
    }

    Faults faults_;
    std::mt19937_64 random_;
    Time free_{}, last_{};
    bool bursting_ = false;
};

struct Options {
    std::vector<std::string> ends;
    Faults both;
    std::vector<std::string> there, back;
    std::uint64_t seed = 1;
    bool path_per_connection = false;
};

class Link {
 public:
    explicit Link(Options given) : options_(std::move(given)) {
        faults_ = {options_.both, options_.both};
        change(faults_[0], options_.there);
        change(faults_[1], options_.back);
        for (std::size_t end = 0; end < 2; ++end) sockets_[end] = open_end(options_.ends[end]);
    }

    void run() {
        const int signals = end_signal();
        const int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        ::prctl(PR_SET_TIMERSLACK, 1UL);   // the default of 50 µs is half of the shortest round trip
        std::cout << "ready\n" << std::flush;
        std::array<pollfd, 4> waiting{{{sockets_[0], POLLIN, 0}, {sockets_[1], POLLIN, 0}, {timer, POLLIN, 0}, {signals, POLLIN, 0}}};
        Time armed{};
        while (true) {
            const Time next = travelling_.empty() ? Time{} : travelling_.top().due;
            if (next != armed) {
                const auto at = next.time_since_epoch().count();
                const itimerspec when{{}, {at / 1'000'000'000, at % 1'000'000'000}};
                ::timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr);
                armed = next;
            }
            if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) throw std::runtime_error(std::strerror(errno));
            if ((waiting[3].revents & POLLIN) != 0) break;
            if ((waiting[2].revents & POLLIN) != 0) {
                std::uint64_t count = 0;
                if (::read(timer, &count, sizeof count) > 0) armed = Time{};
            }
            for (std::size_t end = 0; end < 2; ++end)
                if ((waiting[end].revents & (POLLIN | POLLERR)) != 0) receive(end);
            deliver();
        }
        report();
    }

 private:
    static void change(Faults& faults, const std::vector<std::string>& changes) {
        for (const std::string& text : changes) {
            const std::size_t at = text.find('=');
            if (at == std::string::npos) throw std::invalid_argument(text + ": NAME=VALUE is wanted");
            setting(faults, text.substr(0, at)) = std::stod(text.substr(at + 1));
        }
    }

    static void check(int result, const std::string& what) {
        if (result < 0) throw std::runtime_error(what + ": " + std::strerror(errno));
    }

    static int open_end(const std::string& name) {
        const int socket = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        check(socket, "AF_PACKET");
        const int index = static_cast<int>(::if_nametoindex(name.c_str()));
        if (index == 0) throw std::invalid_argument("no interface " + name);
        const int on = 1, room = 32 << 20;
        check(::setsockopt(socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on), "PACKET_IGNORE_OUTGOING");
        check(::setsockopt(socket, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on), "PACKET_QDISC_BYPASS");
        check(::setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room), "SO_RCVBUFFORCE");
        check(::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room), "SO_SNDBUFFORCE");
        packet_mreq promiscuous{};
        promiscuous.mr_ifindex = index;
        promiscuous.mr_type = PACKET_MR_PROMISC;
        check(::setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous), "PACKET_MR_PROMISC");
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = index;
        check(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), name);
        return socket;
    }

    Wire& wire(std::uint64_t connection, std::size_t direction) {
        const std::uint64_t key = options_.path_per_connection ? connection : 0;
        auto& path = paths_[key];
        if (!path[0])   // a connection's faults follow from the seed and from its turn, not from its port
            for (std::size_t way = 0; way < 2; ++way)
                path[way] = std::make_unique<Wire>(faults_[way], options_.seed * 1'000'003 + paths_.size() * 2 + way);
        return *path[direction];
    }

    void receive(std::size_t end) {
        Counts& counts = counts_[end];
        for (int turns = 0; turns < 64; ++turns) {
            Frame frame(kLongestFrame + 1);
            const auto got = ::recv(sockets_[end], frame.data(), frame.size(), MSG_TRUNC);
            if (got <= 0) return;
            ++counts.frames;
            counts.octets += static_cast<std::uint64_t>(got);
            if (static_cast<std::size_t>(got) > kLongestFrame) {
                ++counts.too_long;
                continue;
            }
            frame.resize(static_cast<std::size_t>(got));
            const Segment segment = segment_of(frame);
            const std::vector<Time> times = wire(segment.connection, end).carry(frame, segment, Clock::now(), counts);
            for (std::size_t copy = 0; copy < times.size(); ++copy)
                travelling_.push({times[copy], ++number_, copy + 1 == times.size() ? std::move(frame) : frame, sockets_[1 - end], end});
        }
    }

    void deliver() {
        const Time now = Clock::now();
        while (!travelling_.empty() && travelling_.top().due <= now) {
            const Travelling& first = travelling_.top();
            Counts& counts = counts_[first.direction];
            if (::send(first.to, first.frame.data(), first.frame.size(), 0) < 0)
                ++counts.not_sent;
            else
                ++counts.sent;
            travelling_.pop();
        }
    }

    void report() {
        std::string text = "{\"seed\": " + std::to_string(options_.seed) + ", \"paths\": " + std::to_string(paths_.size());
        for (std::size_t end = 0; end < 2; ++end) {
            tpacket_stats kernel{};
            socklen_t size = sizeof kernel;
            ::getsockopt(sockets_[end], SOL_PACKET, PACKET_STATISTICS, &kernel, &size);
            Counts& c = counts_[end];
            c.missed = kernel.tp_drops;
            text += std::string(end == 0 ? ", \"there\": {" : ", \"back\": {");
            const std::pair<const char*, std::uint64_t> all[] = {
                {"frames", c.frames}, {"octets", c.octets}, {"segments", c.segments}, {"lost", c.lost}, {"queue_full", c.queue_full},
                {"duplicated", c.duplicated}, {"corrupted", c.corrupted}, {"reordered", c.reordered}, {"sent", c.sent},
                {"too_long", c.too_long}, {"not_sent", c.not_sent}, {"missed", c.missed}};
            for (const auto& [name, value] : all) text += std::string(name == all[0].first ? "\"" : ", \"") + name + "\": " + std::to_string(value);
            text += "}";
        }
        std::cout << text << "}\n" << std::flush;
    }

    Options options_;
    std::array<Faults, 2> faults_;
    std::array<int, 2> sockets_{};
    std::array<Counts, 2> counts_;
    std::map<std::uint64_t, std::array<std::unique_ptr<Wire>, 2>> paths_;
    std::priority_queue<Travelling, std::vector<Travelling>, Later> travelling_;
    std::uint64_t number_ = 0;
};

}  // namespace
}  // namespace sallyport::lab

int main(int count, char** arguments) {
    using namespace sallyport::lab;
    Options options;
    CLI::App app{"A link with faults to order"};
    app.add_option("--ends", options.ends, "two interfaces")->required()->delimiter(',')->expected(2);
    app.add_option("--seed", options.seed, "of everything that is random");
    app.add_option("--loss", options.both.loss, "share of TCP segments that is lost");
    app.add_option("--burst", options.both.burst, "chance that a burst of loss begins");
    app.add_option("--burst-length", options.both.burst_length, "mean segments of a burst");
    app.add_option("--duplicate", options.both.duplicate, "share that arrives twice, the copy later by --reorder-us");
    app.add_option("--corrupt", options.both.corrupt, "share with one wrong bit");
    app.add_option("--reorder", options.both.reorder, "share that is held back by --reorder-us");
    app.add_option("--reorder-us", options.both.reorder_us, "see --reorder");
    app.add_option("--delay-us", options.both.delay_us, "one way");
    app.add_option("--jitter-us", options.both.jitter_us, "at most, beside the delay; changes no order");
    app.add_option("--rate", options.both.rate, "bit/s; 0: no limit");
    app.add_option("--queue", options.both.queue, "octets that may wait for the wire");
    app.add_option("--there", options.there, "NAME=VALUE for the way from the first end to the second alone; may be repeated")->take_all();
    app.add_option("--back", options.back, "NAME=VALUE for the way back alone")->take_all();
    app.add_flag("--path-per-connection", options.path_per_connection, "each TCP connection has a path (wire, queue, faults) of its own");
    CLI11_PARSE(app, count, arguments);
    try {
        Link(std::move(options)).run();
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "lab_link: " << error.what() << '\n';
        return 1;
    }
}
