#include "control/certificates/passphrase.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <spawn.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

extern char** environ;

namespace sallyport::certificates {

namespace {

constexpr std::size_t kLongest = 1024;

/// One line from a descriptor, without its end. Read octet by octet: what follows the line is not ours.
std::expected<Passphrase, std::string> line_from(int fd) {
    std::string line;
    line.reserve(kLongest);  // a string that grows leaves copies behind
    while (line.size() < kLongest) {
        char c = 0;
        const ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || c == '\n') break;
        line.push_back(c);
    }
    Passphrase result(line);
    OPENSSL_cleanse(line.data(), line.size());
    if (result.text().empty()) return std::unexpected("no passphrase was given");
    return result;
}

std::expected<Passphrase, std::string> ask_terminal(int terminal, const std::string& what) {
    termios before{};
    if (tcgetattr(terminal, &before) != 0) return std::unexpected(std::string("the terminal: ") + std::strerror(errno));
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    silent.c_lflag |= ECHONL | ICANON;
    if (tcsetattr(terminal, TCSAFLUSH, &silent) != 0)
        return std::unexpected(std::string("echo cannot be switched off: ") + std::strerror(errno));
    const std::string prompt = "Passphrase of " + what + ": ";
    auto answer = write(terminal, prompt.data(), prompt.size()) < 0
                      ? std::unexpected(std::string("the terminal: ") + std::strerror(errno))
                      : line_from(terminal);
    static_cast<void>(tcsetattr(terminal, TCSAFLUSH, &before));
    return answer;
}

std::expected<Passphrase, std::string> ask_agent(const std::string& what) {
    std::array<int, 2> pipe_ends{};
    if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return std::unexpected(std::string("a pipe: ") + std::strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
    std::string prompt = "Passphrase of " + what + ":";
    std::array<std::string, 4> words{"systemd-ask-password", "--no-tty", "--timeout=90", "--"};
    std::array<char*, 6> arguments{words[0].data(), words[1].data(), words[2].data(), words[3].data(), prompt.data(), nullptr};
    pid_t child = 0;
    const int error = posix_spawn(&child, "/usr/bin/systemd-ask-password", &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_ends[1]);
    if (error != 0) {
        close(pipe_ends[0]);
        return std::unexpected(std::string("systemd-ask-password: ") + std::strerror(error));
    }
    auto answer = line_from(pipe_ends[0]);
    close(pipe_ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::unexpected("nobody answered systemd-ask-password");
    return answer;
}

}  // namespace

Passphrase& Passphrase::operator=(Passphrase&& other) noexcept {
    if (this == &other) return *this;
    wipe();
    text_ = other.text_;
    other.wipe();
    return *this;
}

void Passphrase::wipe() noexcept {
    OPENSSL_cleanse(text_.data(), text_.size());
    text_.clear();
}

std::expected<Passphrase, std::string> ask_person(const std::string& what) {
    if (isatty(STDIN_FILENO) == 1) {
        const int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (terminal >= 0) {
            auto answer = ask_terminal(terminal, what);
            close(terminal);
            return answer;
        }
    }
    // sd_booted(3): the directory is there when systemd runs the system.
    if (access("/run/systemd/system", F_OK) == 0 && access("/usr/bin/systemd-ask-password", X_OK) == 0) return ask_agent(what);
    return std::unexpected("nobody is there to type its password");
}

}  // namespace sallyport::certificates
