#pragma once

#include <chrono>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>

/// Reports for auditors: dated files with a signature beside each, so that what an auditor was given can be told from what
/// somebody edited.
namespace sallyport::policy {

/// Where a report was put.
struct ReportFiles {
    std::filesystem::path report, signature, public_key;
};

/// Writes `text` to DIRECTORY/policy-YYYYMMDDTHHMMSSZ.json and its Ed25519 signature (RFC 8032, 64 octets over the file as it is) to
/// the same name with .sig. The key is DIRECTORY/report.key (PEM, mode 0600), made at the first report; its public half, in
/// DIRECTORY/report.pub, is what an auditor keeps:
///     openssl pkeyutl -verify -pubin -inkey report.pub -rawin -in policy-….json -sigfile policy-….json.sig
/// Files are written whole or not at all. One thread at a time; blocks on the file system. The error is for a person.
[[nodiscard]] std::expected<ReportFiles, std::string> write_signed_report(const std::filesystem::path& directory,
                                                                          std::string_view text,
                                                                          std::chrono::system_clock::time_point now);

}  // namespace sallyport::policy
