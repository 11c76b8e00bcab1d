#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "control/revocation/crl_set.h"

namespace sallyport::revocation {

/// A server for HTTP on loopback that answers what the test likes, one connection after the other.
class Responder {
 public:
    /// From the path of the request to all octets of the answer.
    using Answer = std::function<std::string(const std::string& path)>;

    Responder() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener_, 64) != 0 ||
            getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0)
            std::abort();
        port_ = ntohs(address.sin_port);
        thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    }
    ~Responder() {
        thread_.request_stop();
        thread_.join();
        close(listener_);
    }
    Responder(const Responder&) = delete;
    Responder& operator=(const Responder&) = delete;

    [[nodiscard]] std::string url(const std::string& path = "/") const {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    void answers(Answer answer) {
        const std::lock_guard lock(mutex_);
        answer_ = std::move(answer);
    }
    /// The body with status 200.
    void serves(const Octets& body) { answers([all = ok(body)](const std::string&) { return all; }); }
    /// After the answer: an octet now and then, until the client has had enough.
    void drips(bool drips) { drips_ = drips; }
    [[nodiscard]] int asked() const { return asked_; }

    static std::string ok(const Octets& body) {
        return "HTTP/1.0 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
               std::string(reinterpret_cast<const char*>(body.data()), body.size());
    }

 private:
    static bool wait(int descriptor, int milliseconds) {
        pollfd poll_for{.fd = descriptor, .events = POLLIN, .revents = 0};
        return poll(&poll_for, 1, milliseconds) > 0;
    }
    /// Reads head and body (Content-Length).
    static std::string read_request(int connection) {
        std::string request;
        char piece[4096];
        while (wait(connection, 5000)) {
            const ssize_t length = recv(connection, piece, sizeof(piece), 0);
            if (length <= 0) break;
            request.append(piece, static_cast<std::size_t>(length));
            const std::size_t head = request.find("\r\n\r\n");
            if (head == std::string::npos) continue;
            const std::size_t field = request.find("Content-Length: ");
            const std::size_t body = field < head ? std::stoul(request.substr(field + 16)) : 0;
            if (request.size() >= head + 4 + body) break;
        }
        return request;
    }
    void run(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            if (!wait(listener_, 20)) continue;
            const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (connection < 0) continue;
            ++asked_;
            const std::string request = read_request(connection);
            const std::size_t path = request.find(' ') + 1;
            std::string answer;
            {
                const std::lock_guard lock(mutex_);
                if (answer_) answer = answer_(request.substr(path, request.find(' ', path) - path));
            }
            for (std::size_t sent = 0; sent < answer.size();) {
                const ssize_t length = send(connection, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
                if (length <= 0) break;
                sent += static_cast<std::size_t>(length);
            }
            while (drips_ && !stop.stop_requested() && send(connection, "x", 1, MSG_NOSIGNAL) == 1)
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
            close(connection);
        }
    }

    int listener_;
    int port_ = 0;
    std::mutex mutex_;
    Answer answer_;
    std::atomic<bool> drips_ = false;
    std::atomic<int> asked_ = 0;
    std::jthread thread_;
};

}  // namespace sallyport::revocation
