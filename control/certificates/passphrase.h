#pragma once

#include <expected>
#include <functional>
#include <string>

namespace sallyport::certificates {

/// A passphrase, wiped when it goes.
class Passphrase {
 public:
    Passphrase() = default;
    explicit Passphrase(std::string text) : text_(std::move(text)) {}
    Passphrase(Passphrase&& other) noexcept : text_(other.text_) { other.wipe(); }
    Passphrase& operator=(Passphrase&& other) noexcept;
    Passphrase(const Passphrase&) = delete;
    Passphrase& operator=(const Passphrase&) = delete;
    ~Passphrase() { wipe(); }
    [[nodiscard]] const std::string& text() const { return text_; }

 private:
    void wipe() noexcept;
    std::string text_;
};

/// Asks a person for a passphrase; `what` says of which file. The error says why there is none.
using Ask = std::function<std::expected<Passphrase, std::string>(const std::string& what)>;

/// Asks at the terminal that the program was started on, echo off; without one, by systemd's agents (systemd-ask-password(1)) where
/// the system runs systemd. Waits for the person: for the start of a program only.
[[nodiscard]] std::expected<Passphrase, std::string> ask_person(const std::string& what);

}  // namespace sallyport::certificates
