#include "control/http/redirect.h"

#include <gtest/gtest.h>

#include <string>

namespace sallyport::http {
namespace {

using Outcome = RedirectReader::Outcome;

std::span<const std::byte> octets_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

/// Where a request leads; "400" when it is refused, "more" when it is not complete.
std::string redirected(std::string_view request) {
    RedirectReader reader;
    switch (reader.feed(octets_of(request))) {
        case Outcome::more: return "more";
        case Outcome::refuse: return "400";
        case Outcome::redirect: return reader.location();
    }
    return "";
}

std::string with_host(std::string_view host) { return redirected("GET /a HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"); }
std::string with_target(std::string_view target) { return redirected("GET " + std::string(target) + " HTTP/1.1\r\nHost: example.com\r\n\r\n"); }

TEST(Redirect, OriginForm_SameHostPathAndQuery) {
    EXPECT_EQ(with_target("/a/b%20c?x=1&y=[2]&z=a|b"), "https://example.com/a/b%20c?x=1&y=[2]&z=a|b");
    EXPECT_EQ(with_target("//other.example/x"), "https://example.com//other.example/x");
    EXPECT_EQ(redirected("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello"), "https://example.com/");
    EXPECT_EQ(redirected("GET / HTTP/1.0\r\nhOST:\t example.com \r\n\r\n"), "https://example.com/");
}

TEST(Redirect, AbsoluteForm_ItsAuthorityCounts) {
    EXPECT_EQ(with_target("http://other.example:80/x?y"), "https://other.example/x?y");
    EXPECT_EQ(with_target("HTTP://other.example"), "https://other.example/");
    EXPECT_EQ(with_target("http://other.example?q"), "https://other.example/?q");
    EXPECT_EQ(with_target("http://user@other.example/"), "400");
    EXPECT_EQ(with_target("http:///x"), "400");
    EXPECT_EQ(with_target("https://example.com/"), "400");
    EXPECT_EQ(with_target("ftp://example.com/"), "400");
}

TEST(Redirect, Hosts_NamesAndAddressesWithoutPort) {
    EXPECT_EQ(with_host("Example.COM"), "https://Example.COM/a");
    EXPECT_EQ(with_host("example.com."), "https://example.com./a");
    EXPECT_EQ(with_host("example.com:8080"), "https://example.com/a");
    EXPECT_EQ(with_host("192.0.2.1:80"), "https://192.0.2.1/a");
    EXPECT_EQ(with_host("[2001:db8::1]:80"), "https://[2001:db8::1]/a");
    EXPECT_EQ(with_host("xn--bcher-kva.example"), "https://xn--bcher-kva.example/a");
}

TEST(Redirect, OtherHosts_Refused) {
    for (const char* const host : {"", " ", "a b", "example..com", ".example.com", "-a.example", "a-.example", "ex_ample.com", "example.com:x",
                                   "example.com:65536", "example.com:80:80", "user@example.com", "example.com/x", "example.com?x",
                                   "example.com#x", "\"example.com", "<script>", "256.1.1.1", "1.2.3", "1", "[::1", "[1.2.3.4]", "[fe80::1%eth0]",
                                   "[::1]x", "::1", "b\xc3\xbc" "cher.example", "example.com,other.example"})
        EXPECT_EQ(with_host(host), "400") << host;
    EXPECT_EQ(with_host(std::string(64, 'a') + ".example"), "400");
    std::string longest;
    for (int i = 0; i < 64; ++i) longest += "abc.";
    EXPECT_EQ(with_host(longest + "example"), "400");
}

TEST(Redirect, Host_MustBeThereOnce) {
    EXPECT_EQ(redirected("GET / HTTP/1.1\r\n\r\n"), "400");
    EXPECT_EQ(redirected("GET / HTTP/1.0\r\n\r\n"), "400");
    EXPECT_EQ(redirected("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n"), "400");
    EXPECT_EQ(redirected("GET http://b.example/ HTTP/1.1\r\nHost: a b\r\n\r\n"), "400");
}

TEST(Redirect, Targets_ThatNoUriHas_Refused) {
    for (const char* const target : {"*", "example.com:443", "a", "/%", "/%0", "/%zz", "/a#b", "/a\"b", "/<x>", "/a\\b", "/a`b", "/\x7f", "/\xe4", "/a\tb"})
        EXPECT_EQ(with_target(target), "400") << target;
    EXPECT_EQ(redirected("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"), "400");
    EXPECT_EQ(redirected("OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n"), "400");
}

TEST(Redirect, WhatIsNoRequest_RefusedAtOnce) {
    EXPECT_EQ(redirected(std::string_view("\x16\x03\x01\x02\x00\x01", 6)), "400");
    EXPECT_EQ(redirected("SSH-2.0-x\r\n"), "400");
    EXPECT_EQ(redirected("HTTP/1.1 200 OK\r\n\r\n"), "400");
    EXPECT_EQ(redirected("GET / HTTP/9.9\r\nHost: a.example\r\n\r\n"), "400");
    EXPECT_EQ(redirected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "400");
}

TEST(Redirect, NoOctetOfARequestBreaksALine) {
    for (int octet = 0; octet < 256; ++octet) {
        for (const bool in_host : {true, false}) {
            std::string request = in_host ? "GET / HTTP/1.1\r\nHost: exam@ple.com\r\n\r\n" : "GET /a@b HTTP/1.1\r\nHost: example.com\r\n\r\n";
            request[request.find('@')] = static_cast<char>(octet);
            RedirectReader reader;
            const auto outcome = reader.feed(octets_of(request));
            if (outcome == Outcome::more) continue;
            const std::string answer = reader.answer(std::chrono::sys_seconds(std::chrono::seconds(0)));
            EXPECT_EQ(answer.find("\r\n\r\n"), answer.size() - 4) << octet;
            for (const char c : reader.location()) EXPECT_TRUE(c > ' ' && c < 127) << octet;
        }
    }
}

TEST(Redirect, AnySplit_SameAnswer) {
    const std::string request = "GET /path?query HTTP/1.1\r\nUser-Agent: x\r\nHost: www.example.com:80\r\nAccept: */*\r\n\r\nbody";
    for (std::size_t split = 1; split < request.size() - 5; ++split) {
        RedirectReader reader;
        ASSERT_EQ(reader.feed(octets_of(request).first(split)), Outcome::more) << split;
        ASSERT_EQ(reader.feed(octets_of(request).subspan(split)), Outcome::redirect) << split;
        EXPECT_EQ(reader.location(), "https://www.example.com/path?query");
    }
    RedirectReader reader;
    Outcome outcome = Outcome::more;
    for (std::size_t i = 0; i < request.size(); ++i) outcome = reader.feed(octets_of(request).subspan(i, 1));
    EXPECT_EQ(outcome, Outcome::redirect);
}

TEST(Redirect, HeadLongerThanItsLimit_Refused) {
    const std::string begin = "GET / HTTP/1.1\r\nHost: example.com\r\nX: ";
    EXPECT_EQ(redirected(begin + std::string(kMaxHead - begin.size() - 4, 'x') + "\r\n\r\n"), "https://example.com/");
    EXPECT_EQ(redirected(begin + std::string(kMaxHead - begin.size() - 3, 'x') + "\r\n\r\n"), "400");
    RedirectReader reader;
    std::size_t fed = 0;
    while (reader.feed(octets_of(fed == 0 ? "GET /" : "a")) == Outcome::more) ASSERT_LE(++fed, kMaxHead);
}

TEST(Redirect, Answers_WordForWord) {
    RedirectReader good, bad;
    ASSERT_EQ(good.feed(octets_of("GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n")), Outcome::redirect);
    ASSERT_EQ(bad.feed(octets_of("GET /x HTTP/1.1\r\n\r\n")), Outcome::refuse);
    const auto now = std::chrono::sys_days(std::chrono::year(2026) / 11 / 3) + std::chrono::hours(4);
    EXPECT_EQ(good.answer(now),
              "HTTP/1.1 308 Permanent Redirect\r\nDate: Tue, 03 Nov 2026 04:00:00 GMT\r\nLocation: https://example.com/x\r\n"
              "Content-Length: 0\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(bad.answer(now),
              "HTTP/1.1 400 Bad Request\r\nDate: Tue, 03 Nov 2026 04:00:00 GMT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(bad.why(), "no Host");
}

}  // namespace
}  // namespace sallyport::http
