#include "control/channel/attachment.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sallyport::channel {

namespace {

std::unexpected<std::string> system_error(std::string what) {
    return std::unexpected(std::move(what) + ": " + std::strerror(errno));
}

std::expected<sockaddr_un, std::string> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return std::unexpected("'" + path + "' is too long for a UNIX socket (107 octets at most)");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

}  // namespace

Attachment::Attachment(Descriptor socket) : socket_(std::move(socket)) {
    fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

std::expected<void, std::string> Attachment::send(std::string_view text, std::span<const int> descriptors) {
    if (text.size() > kMaxFrame) return std::unexpected("message of " + std::to_string(text.size()) + " octets is too long");
    if (descriptors.size() > kMaxDescriptors)
        return std::unexpected("message with " + std::to_string(descriptors.size()) + " descriptors, where " + std::to_string(kMaxDescriptors) + " can go");
    Outgoing frame;
    const auto length = static_cast<std::uint32_t>(text.size());
    frame.octets.assign(reinterpret_cast<const char*>(&length), sizeof length);
    frame.octets += text;
    for (const int fd : descriptors) {
        frame.descriptors.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
        if (!frame.descriptors.back().valid()) return system_error("cannot duplicate a descriptor");
    }
    outgoing_.push_back(std::move(frame));
    return flush();
}

std::expected<void, std::string> Attachment::flush() {
    while (!outgoing_.empty()) {
        Outgoing& frame = outgoing_.front();
        iovec octets{frame.octets.data() + frame.sent, frame.octets.size() - frame.sent};
        msghdr message{};
        message.msg_iov = &octets;
        message.msg_iovlen = 1;
        alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
        if (frame.sent == 0 && !frame.descriptors.empty()) {  // descriptors go with the first octet
            const std::size_t count = frame.descriptors.size();
            message.msg_control = control;
            message.msg_controllen = CMSG_SPACE(count * sizeof(int));
            cmsghdr* const header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(count * sizeof(int));
            for (std::size_t i = 0; i < count; ++i) {
                const int fd = frame.descriptors[i].get();
                std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
            }
        }
        const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
            if (errno == EINTR) continue;
            return system_error("cannot send");
        }
        frame.sent += static_cast<std::size_t>(sent);
        if (frame.sent < frame.octets.size()) continue;
        outgoing_.pop_front();
    }
    return {};
}

std::expected<std::optional<Attachment::Frame>, std::string> Attachment::receive() {
    while (true) {
        std::uint32_t length = 0;
        if (incoming_.size() >= sizeof length) {
            std::memcpy(&length, incoming_.data(), sizeof length);
            if (length > kMaxFrame) return std::unexpected("peer announced a message of " + std::to_string(length) + " octets");
            if (incoming_.size() >= sizeof length + length) {
                Frame frame{incoming_.substr(sizeof length, length), std::move(incoming_descriptors_)};
                incoming_descriptors_.clear();
                incoming_.erase(0, sizeof length + length);
                return frame;
            }
        }
        // A frame at a time, so that descriptors belong to the frame that they came with.
        const std::size_t want = incoming_.size() < sizeof length ? sizeof length - incoming_.size()
                                                                  : sizeof length + length - incoming_.size();
        char buffer[65536];
        iovec octets{buffer, std::min(want, sizeof buffer)};
        alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
        msghdr message{};
        message.msg_iov = &octets;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t got = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
            if (errno == EINTR) continue;
            return system_error("cannot receive");
        }
        for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
            if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
            const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t i = 0; i < count; ++i) {
                int fd = -1;
                std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
                incoming_descriptors_.emplace_back(fd);
            }
        }
        if ((message.msg_flags & MSG_CTRUNC) != 0 || incoming_descriptors_.size() > kMaxDescriptors)
            return std::unexpected("peer sent too many descriptors");
        if (got == 0) return std::unexpected("peer closed the connection");
        incoming_.append(buffer, static_cast<std::size_t>(got));
    }
}

Attachment::Peer Attachment::peer() const {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return {~0u, -1};
    return {credentials.uid, credentials.pid};
}

std::expected<Descriptor, std::string> listen_at(const std::string& path, std::uint32_t uid, std::uint32_t gid) {
    const auto address = address_of(path);
    if (!address) return std::unexpected(address.error());
    if (connect_to(path)) return std::unexpected("another process listens at " + path);
    struct stat status {};
    if (lstat(path.c_str(), &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) return std::unexpected(path + " exists and is not a socket");
        unlink(path.c_str());
    }
    Descriptor listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener.valid()) return system_error("socket");
    const mode_t before = umask(0177);
    const int bound = bind(listener.get(), generic(*address), sizeof *address);
    umask(before);
    if (bound != 0) return system_error("cannot bind " + path);
    if (geteuid() == 0 && chown(path.c_str(), uid, gid) != 0) return system_error("cannot change the owner of " + path);
    if (listen(listener.get(), 8) != 0) return system_error("cannot listen at " + path);
    return listener;
}

std::optional<Descriptor> accept_from(const Descriptor& listener) {
    Descriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return std::nullopt;
    return socket;
}

std::expected<Descriptor, std::string> connect_to(const std::string& path) {
    const auto address = address_of(path);
    if (!address) return std::unexpected(address.error());
    Descriptor result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!result.valid()) return system_error("socket");
    if (connect(result.get(), generic(*address), sizeof *address) != 0) return system_error(path);
    return result;
}

}  // namespace sallyport::channel
