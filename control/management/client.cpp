#include "control/management/client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "crypto/format.h"

namespace sallyport::management {

namespace {

using Clock = std::chrono::steady_clock;

/// Longest answer that is taken: above the server's bound, so that only something that is not our server meets it.
constexpr std::size_t kMaxAnswer = std::size_t{512} << 20;

std::unexpected<CallError> error(CallError::Kind kind, std::string text) {
    return std::unexpected(CallError{kind, {}, std::move(text)});
}

/// Waits for `events` on the socket until the deadline; false when it passes first, or `stop` is set.
bool wait_for(int fd, short events, Clock::time_point deadline, const volatile std::sig_atomic_t* stop) {
    // A signal that comes just before poll() does not wake it: it is looked for again so often.
    const long longest = stop == nullptr ? 60'000 : 250;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0 || (stop != nullptr && *stop != 0)) return false;
        pollfd waited{.fd = fd, .events = events, .revents = 0};
        const int ready = ::poll(&waited, 1, static_cast<int>(std::min<long>(left, longest)));
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return true;  // let the next call meet the error
    }
}

}  // namespace

Client::Client(channel::Descriptor socket, std::string path, std::chrono::milliseconds timeout)
    : socket_(std::move(socket)), path_(std::move(path)), timeout_(timeout) {}

std::expected<Client, CallError> Client::connect(const std::string& path, std::chrono::milliseconds timeout) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return error(CallError::Kind::away, sallyport::format("the socket's path \"{}\" must have 1 to {} octets", path,
                                                              sizeof address.sun_path - 1));
    std::memcpy(address.sun_path, path.data(), path.size());

    channel::Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return error(CallError::Kind::broken, sallyport::format("no socket: {}", std::strerror(errno)));
    // Bounds connect() where the server's queue of connections is full.
    const timeval bound{.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        switch (errno) {
            case EACCES:
            case EPERM:
                return error(CallError::Kind::forbidden,
                             sallyport::format("{}: {}; it is open to all, but a directory above it is not", path,
                                               std::strerror(errno)));
            case EAGAIN:
            case EINPROGRESS:
                return error(CallError::Kind::timed_out, sallyport::format("control does not answer ({})", path));
            default:
                return error(CallError::Kind::away,
                             sallyport::format("control is not running ({}: {})", path, std::strerror(errno)));
        }
    }
    return Client(std::move(socket), path, timeout);
}

bool Client::usable() const {
    pollfd looked{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    return received_.empty() && ::poll(&looked, 1, 0) == 0;
}

void Client::say_from(std::string_view from) {
    from_.clear();
    for (const char c : from)
        if (c >= ' ' && c < 0x7f && from_.size() < kMaxFromLength) from_ += c;
}

std::expected<nlohmann::json, CallError> Client::call(std::vector<std::string> command, nlohmann::json arguments) {
    const auto deadline = Clock::now() + timeout_;
    const std::int64_t id = next_id_++;
    const std::string request =
        format_request({.id = id, .command = std::move(command), .arguments = std::move(arguments), .from = from_});
    const auto ended = [&] {
        return error(CallError::Kind::broken, sallyport::format("control ended the connection ({})", path_));
    };
    const auto late = [&] {
        if (stop_ != nullptr && *stop_ != 0) return error(CallError::Kind::broken, "interrupted; what was asked may still be done");
        return error(CallError::Kind::timed_out,
                     sallyport::format("control did not answer within {} ms ({})", timeout_.count(), path_));
    };

    bool sent_all = true;
    for (std::size_t sent = 0; sent < request.size();) {
        if (!wait_for(socket_.get(), POLLOUT, deadline, stop_)) return late();
        const ssize_t n =
            ::send(socket_.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += static_cast<std::size_t>(n);
        else if (errno != EAGAIN && errno != EINTR) {
            sent_all = false;  // an answer such as "busy" may still wait to be read
            break;
        }
    }
    for (;;) {
        std::size_t scanned = 0;
        std::size_t end;
        while ((end = received_.find('\n', scanned)) == std::string::npos) {
            scanned = received_.size();
            if (received_.size() > kMaxAnswer) return error(CallError::Kind::broken, "the answer is too long");
            if (!wait_for(socket_.get(), POLLIN, deadline, stop_)) return late();
            std::array<char, 65536> buffer;
            const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return ended();
            if (n > 0) received_.append(buffer.data(), static_cast<std::size_t>(n));
        }
        auto answer = parse_answer(std::string_view(received_).substr(0, end));
        received_.erase(0, end + 1);
        if (!answer) return error(CallError::Kind::broken, std::move(answer.error()));
        // Without an id: of the server itself, before it read our request.
        if (answer->id != id && !(answer->id.is_null() && !answer->result)) {
            if (!sent_all) return ended();
            continue;
        }
        if (!answer->result) {
            Error& refusal = answer->result.error();
            const auto kind = refusal.code == "forbidden" ? CallError::Kind::forbidden : CallError::Kind::refused;
            return std::unexpected(CallError{kind, std::move(refusal.code), std::move(refusal.text)});
        }
        return std::move(*answer->result);
    }
}

}  // namespace sallyport::management
