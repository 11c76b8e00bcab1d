#include "control/management/server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/channel/shared_memory.h"
#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::management {

namespace {

using channel::Descriptor;
using Clock = std::chrono::steady_clock;

constexpr mode_t kSocketMode = 0666;
constexpr int kBacklog = 64;
/// Clients without a role that are heard at once, all of them together: enough to be told so.
constexpr std::size_t kMaxWithoutRole = 4;
/// New clients taken up in one round: those who connect in a loop must not keep the others waiting.
constexpr int kAcceptedAtOnce = 64;
/// How long new clients wait when the process has no descriptor left for them.
constexpr std::chrono::milliseconds kAcceptPause{1000};

std::unexpected<std::string> failed(const std::string& path, std::string_view what) {
    return std::unexpected(sallyport::format("management socket {}: {}", path, what));
}

/// Removes the socket file that a dead process left. Nothing there is success too.
std::expected<void, std::string> remove_stale(const std::string& path, const sockaddr_un& address) {
    struct stat status{};
    if (lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return {};
        return failed(path, std::strerror(errno));
    }
    if (!S_ISSOCK(status.st_mode)) return failed(path, "is there and is not a socket; remove it or name another path");
    Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe.valid()) return failed(path, std::strerror(errno));
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN)
        return failed(path, "another process serves it; is control running already?");
    if (errno != ECONNREFUSED) return failed(path, std::strerror(errno));
    if (unlink(path.c_str()) != 0 && errno != ENOENT)
        return failed(path, sallyport::format("cannot be replaced: {}", std::strerror(errno)));
    return {};
}

/// The peer's supplementary groups (SO_PEERGROUPS, unix(7)); empty when the kernel does not say.
std::vector<std::uint32_t> groups_of(int fd) {
    static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
    std::vector<std::uint32_t> groups(64);
    for (;;) {
        socklen_t length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        const bool good = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) == 0;
        const std::size_t count = length / sizeof(gid_t);
        if (!good && (errno != ERANGE || count <= groups.size())) return {};
        groups.resize(count);
        if (good) return groups;
    }
}

struct Client {
    Descriptor socket;
    Peer peer;
    std::string incoming;            ///< at most kMaxRequest octets
    std::string outgoing;            ///< one answer
    std::size_t sent = 0;            ///< of outgoing
    bool peer_finished = false;      ///< it sends no more; what it asked is still answered
    bool refuse_rest = false;        ///< it broke the framing: close when the answer has left
    std::uint32_t events = EPOLLIN;  ///< that epoll watches
    Clock::time_point last_progress;
    std::chrono::system_clock::time_point since = std::chrono::system_clock::now();
    std::uint64_t commands = 0;
    std::string last_command;

    [[nodiscard]] std::size_t unsent() const noexcept { return outgoing.size() - sent; }
    [[nodiscard]] bool has_request() const noexcept { return incoming.contains('\n'); }
};

enum class Fate : std::uint8_t { lives, gone };

}  // namespace

struct Server::State {
    std::string path;
    Handler handler;
    Settings settings;
    Descriptor epoll, listener;
    struct stat file{};  ///< of the socket, to know it again
    std::unordered_map<int, Client> clients;
    std::vector<int> turn;  ///< clients with a whole request in `incoming`, taken up in the next round
    bool accepting = true;
    Clock::time_point accept_again;

    void watch(int fd, Client& client) {
        // While an answer is under way or a request waits, more is not read: the socket's buffer holds the client back.
        const bool reads =
            client.unsent() == 0 && !client.has_request() && !client.peer_finished && !client.refuse_rest;
        const std::uint32_t events = (reads ? EPOLLIN : 0u) | (client.unsent() > 0 ? EPOLLOUT : 0u);
        if (events == client.events) return;
        client.events = events;
        epoll_event event{.events = events, .data = {.fd = fd}};
        SALLYPORT_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_MOD, fd, &event) == 0);
    }

    void watch_listener(bool on) {
        accepting = on;
        epoll_event event{.events = on ? EPOLLIN : 0u, .data = {.fd = listener.get()}};
        SALLYPORT_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_MOD, listener.get(), &event) == 0);
    }

    [[nodiscard]] std::size_t unsent() const {
        std::size_t sum = 0;
        for (const auto& [fd, client] : clients) sum += client.unsent();
        return sum;
    }

    [[nodiscard]] Role role_of(const Peer& peer) const {
        return settings.role_of ? settings.role_of(peer) : RoleGroups{}.role_of(peer.uid, peer.gid, peer.groups);
    }

    /// Why there is no place for one more client like this; empty: there is.
    [[nodiscard]] std::string no_place_for(const Peer& peer) const {
        const bool administrator = peer.role == Role::administrator;
        if (clients.size() >= settings.max_clients + (administrator ? settings.reserved_clients : 0))
            return sallyport::format("{} clients are connected, the most that are served", clients.size());
        const auto count = [&](auto like) {
            return static_cast<std::size_t>(
                std::ranges::count_if(clients, [&](const auto& each) { return like(each.second.peer); }));
        };
        if (!administrator &&
            count([&](const Peer& each) { return each.uid == peer.uid; }) >= settings.max_clients_of_user)
            return sallyport::format("{} has {} connections, the most that one user may have", peer.user,
                                     settings.max_clients_of_user);
        if (peer.role == Role::none &&
            count([](const Peer& each) { return each.role == Role::none; }) >= kMaxWithoutRole)
            return "too many who may not use it have asked at once";
        return {};
    }

    void accept_clients(Clock::time_point now) {
        for (int accepted = 0; accepted < kAcceptedAtOnce; ++accepted) {
            Descriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!socket.valid()) {
                if (errno == EINTR || errno == ECONNABORTED) continue;
                if (errno != EAGAIN) {  // no descriptors, no memory: it would be readable for ever
                    accept_again = now + kAcceptPause;
                    watch_listener(false);
                }
                return;
            }
            ucred credentials{};
            socklen_t length = sizeof credentials;
            if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) continue;
            Peer peer{.uid = credentials.uid,
                      .gid = credentials.gid,
                      .pid = credentials.pid,
                      .groups = groups_of(socket.get())};
            peer.role = role_of(peer);
            peer.user = user_name(peer.uid);
            if (auto why = no_place_for(peer); !why.empty()) {
                const std::string busy = format_answer(nullptr, std::unexpected(Error{"busy", std::move(why)}));
                static_cast<void>(send(socket.get(), busy.data(), busy.size(), MSG_NOSIGNAL));
                continue;
            }
            const int fd = socket.get();
            epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
            if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) continue;
            Client client;
            client.socket = std::move(socket);
            client.peer = std::move(peer);
            client.last_progress = now;
            clients.emplace(fd, std::move(client));
        }
    }

    Fate receive(Client& client, Clock::time_point now) {
        std::array<char, 16384> buffer;
        const std::size_t room = std::min(buffer.size(), kMaxRequest - client.incoming.size());
        const ssize_t n = recv(client.socket.get(), buffer.data(), room, 0);
        if (n < 0) return errno == EAGAIN || errno == EINTR ? Fate::lives : Fate::gone;
        if (n == 0) {
            client.peer_finished = true;
            return Fate::lives;
        }
        client.last_progress = now;
        client.incoming.append(buffer.data(), static_cast<std::size_t>(n));
        return Fate::lives;
    }

    Fate transmit(Client& client, Clock::time_point now) {
        while (client.unsent() > 0) {
            const ssize_t n =
                send(client.socket.get(), client.outgoing.data() + client.sent, client.unsent(), MSG_NOSIGNAL);
            if (n < 0) return errno == EAGAIN || errno == EINTR ? Fate::lives : Fate::gone;
            client.sent += static_cast<std::size_t>(n);
            client.last_progress = now;
        }
        client.outgoing = {};  // gives back the memory of a big one
        client.sent = 0;
        return Fate::lives;
    }

    std::string answer(std::string_view line, Client& client) {
        Peer& peer = client.peer;
        auto request = parse_request(line);
        if (!request) return format_answer(request.error().id, std::unexpected(std::move(request.error().error)));
        const auto refuse = [&](std::string code, std::string text) {
            return format_answer(request->id, std::unexpected(Error{std::move(code), std::move(text)}));
        };
        if (unsent() > settings.max_unsent)
            return refuse("busy", "other clients have not taken their answers; try again");
        peer.role = role_of(peer);
        peer.from = request->from;
        ++client.commands;
        client.last_command = request->name().substr(0, 64);
        try {
            std::string text = format_answer(request->id, handler(*request, peer));
            if (text.size() > settings.max_answer)
                return refuse("too_big",
                              sallyport::format("the answer would have {} octets, and at most {} are sent; ask for less",
                                                text.size(), settings.max_answer));
            return text;
        } catch (const std::exception& e) {
            return refuse("internal", e.what());
        }
    }

    /// Takes up one request, if the last answer has left. Decides whether the client stays.
    Fate go_on(Client& client, Clock::time_point now) {
        if (client.unsent() == 0 && !client.refuse_rest) {
            const std::size_t end = client.incoming.find('\n');
            if (end != std::string::npos) {
                client.outgoing = answer(std::string_view(client.incoming).substr(0, end), client);
                client.incoming.erase(0, end + 1);
                client.refuse_rest = client.peer.role == Role::none;
            } else if (client.incoming.size() >= kMaxRequest) {
                client.outgoing = answer(client.incoming, client);  // too_long
                client.refuse_rest = true;
            }
            if (transmit(client, now) == Fate::gone) return Fate::gone;
        }
        if (client.unsent() > 0) return Fate::lives;
        if (client.refuse_rest) return Fate::gone;
        return client.peer_finished && !client.has_request() ? Fate::gone : Fate::lives;
    }

    void serve(int fd, std::uint32_t events, Clock::time_point now) {
        const auto found = clients.find(fd);
        if (found == clients.end()) return;  // closed earlier in this round
        Client& client = found->second;
        Fate fate = Fate::lives;
        if ((events & EPOLLERR) != 0 || ((events & EPOLLHUP) != 0 && client.unsent() > 0)) fate = Fate::gone;
        if (fate == Fate::lives && (events & EPOLLOUT) != 0) fate = transmit(client, now);
        if (fate == Fate::lives && (client.events & EPOLLIN) != 0 && (events & (EPOLLIN | EPOLLHUP)) != 0)
            fate = receive(client, now);
        if (fate == Fate::lives) fate = go_on(client, now);
        if (fate == Fate::gone) {
            clients.erase(found);
            return;
        }
        watch(fd, client);
        if (client.unsent() == 0 && client.has_request()) turn.push_back(fd);
    }

    void close_idle(Clock::time_point now) {
        std::erase_if(clients,
                      [&](const auto& entry) { return now - entry.second.last_progress >= settings.idle_timeout; });
        if (!accepting && now >= accept_again) watch_listener(true);
    }
};

Server::Server() : state_(std::make_unique<State>()) {}

std::expected<std::unique_ptr<Server>, std::string> Server::open(const std::string& path, Handler handler,
                                                                 const Settings& settings) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return failed(path, sallyport::format("a path must have 1 to {} octets", sizeof address.sun_path - 1));
    std::memcpy(address.sun_path, path.data(), path.size());
    if (auto removed = remove_stale(path, address); !removed) return std::unexpected(removed.error());

    std::unique_ptr<Server> server(new Server);
    State& state = *server->state_;
    state.path = path;
    state.handler = std::move(handler);
    state.settings = settings;
    state.epoll = Descriptor(epoll_create1(EPOLL_CLOEXEC));
    state.listener = Descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!state.epoll.valid() || !state.listener.valid()) return failed(path, std::strerror(errno));
    // bind() gives the file the socket's mode less the umask: never more than is meant, not even for a moment.
    if (fchmod(state.listener.get(), kSocketMode) != 0) return failed(path, std::strerror(errno));
    if (bind(state.listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return failed(path, std::strerror(errno));
    SALLYPORT_CHECK(lstat(path.c_str(), &state.file) == 0);  // from here on the destructor removes the file
    if (settings.owner || settings.group) {
        if (lchown(path.c_str(), settings.owner.value_or(static_cast<uid_t>(-1)),
                   settings.group.value_or(static_cast<gid_t>(-1))) != 0)
            return failed(path,
                          sallyport::format("cannot be given to user {} and group {}: {}", settings.owner.value_or(getuid()),
                                            settings.group.value_or(getgid()), std::strerror(errno)));
    }
    if (chmod(path.c_str(), kSocketMode) != 0) return failed(path, std::strerror(errno));
    if (listen(state.listener.get(), kBacklog) != 0) return failed(path, std::strerror(errno));
    epoll_event event{.events = EPOLLIN, .data = {.fd = state.listener.get()}};
    if (epoll_ctl(state.epoll.get(), EPOLL_CTL_ADD, state.listener.get(), &event) != 0)
        return failed(path, std::strerror(errno));
    return server;
}

Server::~Server() {
    struct stat now{};
    if (state_->file.st_ino != 0 && lstat(state_->path.c_str(), &now) == 0 && now.st_ino == state_->file.st_ino &&
        now.st_dev == state_->file.st_dev)
        unlink(state_->path.c_str());
}

int Server::fd() const noexcept {
    return state_->epoll.get();
}

void Server::poll(std::chrono::milliseconds timeout) {
    State& state = *state_;
    // Idle clients and a paused listener are looked at once a second, however long the caller would wait.
    const auto wait = state.turn.empty()
                          ? std::clamp(timeout, std::chrono::milliseconds(0), std::chrono::milliseconds(1000))
                          : std::chrono::milliseconds(0);
    std::array<epoll_event, 64> events;
    const int ready =
        epoll_wait(state.epoll.get(), events.data(), static_cast<int>(events.size()), static_cast<int>(wait.count()));
    const auto now = Clock::now();
    const auto turn = std::exchange(state.turn, {});
    for (const int fd : turn) state.serve(fd, 0, now);
    for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.fd == state.listener.get()) continue;
        if (!std::ranges::contains(turn, event.data.fd)) state.serve(event.data.fd, event.events, now);
    }
    // Last, so that no descriptor number of a client closed in this round is taken for a new one.
    for (int i = 0; i < ready; ++i)
        if (events[static_cast<std::size_t>(i)].data.fd == state.listener.get()) state.accept_clients(now);
    state.close_idle(now);
}

std::size_t Server::clients() const noexcept {
    return state_->clients.size();
}

std::vector<Server::Session> Server::sessions() const {
    std::vector<Session> sessions;
    const auto now = Clock::now();
    for (const auto& [fd, client] : state_->clients)
        if (client.peer.role != Role::none)
            sessions.push_back({client.peer, client.since, std::chrono::duration_cast<std::chrono::milliseconds>(now - client.last_progress), client.commands,
                                client.last_command});
    std::ranges::sort(sessions, {}, &Session::since);
    return sessions;
}

std::size_t Server::unsent() const noexcept {
    return state_->unsent();
}

}  // namespace sallyport::management
