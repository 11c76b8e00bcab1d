// A document takes what libconfig takes, with the same values, and refuses what it refuses; whatever is edited, libconfig still reads
// the text as the document does.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "crypto/check.h"
#include "tests/unit/control/configuration/dump.h"

namespace {

using sallyport::configuration::Document;

void check_same(const std::string& text) {
    using namespace sallyport::configuration;
    const std::string ours = by_document(text), theirs = by_libconfig(text);
    SALLYPORT_CHECK(ours.starts_with("refused") == theirs.starts_with("refused"));
    SALLYPORT_CHECK(ours.starts_with("refused") || ours == theirs);
}

const std::vector<std::vector<std::string>> kEdits{
    {"set", "services", "www", "idle_timeout_s", "600"}, {"delete", "services", "www"}, {"set", "log", "level", "info"}, {"delete", "log"},
    {"set", "pools", "web", "members", "1.2.3.4:5", "weight", "2"}, {"delete", "pools", "web", "members", "1.2.3.4:5"}, {"delete", "pools", "[0]"},
    {"set", "dataplane", "cores", "1", "2"}, {"delete", "dataplane", "cores", "1"}, {"set", "services", "www", "listen", "a", "b"},
    {"delete", "services", "www", "listen", "a"}, {"delete", "services"}, {"set", "policy", "waivers", "9.4.3", "service www", "until", "x"}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string text(reinterpret_cast<const char*>(data), size);
    const auto document = Document::parse(text);
    // Included files are not read by documents; a zero octet ends the text for libconfig; it also nests deeper than documents do.
    const bool comparable = !text.contains("@include") && !text.contains('\0') && (document || !document.error().wrong.starts_with("nested"));
    if (comparable) check_same(text);
    if (!document) return 0;
    SALLYPORT_CHECK(document->text() == text);
    Document edited = *document;
    for (std::vector<std::string> words : kEdits) {
        const bool sets = words.front() == "set";
        words.erase(words.begin());
        const std::string before = edited.text();
        const auto done = sets ? edited.set(words) : edited.remove(words);
        if (!done) SALLYPORT_CHECK(edited.text() == before && !done.error().text.empty());
        else if (comparable) check_same(edited.text());
    }
    (void)edited.show_set({});
    return 0;
}
