#include "control/cli/editor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

Completion completion(std::size_t at, std::string partial, std::vector<Candidate> candidates) {
    return {.at = at, .partial = std::move(partial), .candidates = std::move(candidates), .fault = {}};
}

TEST(Insertion, SingleWord_IsWholeWithABlank) {
    const Insertion insert = insertion(completion(5, "ser", {{"services", ""}}), "show ser");
    EXPECT_EQ(insert.remove, 3u);
    EXPECT_EQ(insert.text, "services ");
}

TEST(Insertion, SeveralWords_TheirCommonBeginning) {
    EXPECT_EQ(insertion(completion(5, "f", {{"flow", ""}, {"flows", ""}}), "show f").text, "flow");
    EXPECT_EQ(insertion(completion(5, "flow", {{"flow", ""}, {"flows", ""}}), "show flow").text, "");
    EXPECT_EQ(insertion(completion(5, "", {{"flows", ""}, {"ports", ""}}), "show ").text, "");
}

TEST(Insertion, WordWithBlanks_IsQuoted) {
    EXPECT_EQ(insertion(completion(11, "\"two", {{"two words", ""}}), "drain pool \"two").text, "\"two words\" ");
    EXPECT_EQ(insertion(completion(0, "two", {{"two words", ""}, {"two wolves", ""}}), "two").text, "\"two wo");
}

TEST(Insertion, Directory_GoesOn) {
    EXPECT_EQ(insertion(completion(5, "di", {{"dir/", ""}}), "save di").text, "dir/");
}

TEST(Insertion, PlaceForTheUsersOwn_IsNotFilled) {
    EXPECT_EQ(insertion(completion(14, "", {{"www", ""}, {"<service>", "", false}}), "drain service ").text, "");
    EXPECT_EQ(insertion(completion(14, "w", {{"www", ""}, {"<service>", "", false}}), "drain service w").text, "www ");
    EXPECT_EQ(insertion(completion(13, "", {{"<enter>", "", false}, {"|", ""}}), "show version ").text, "");
}

TEST(CandidateList, IsOneLineEach) {
    EXPECT_EQ(candidate_list(completion(0, "", {{"show", "show what is going on"}, {"ping\x1b", "echo"}, {"x", ""}}), 40),
              "  show   show what is going on\n"
              "  ping\\x1b  echo\n"
              "  x\n");
    EXPECT_EQ(candidate_list(completion(0, "", {{"show", "Zürich und mehr davon"}}), 16), "  show  Zürich \n");
}

}  // namespace
}  // namespace sallyport::cli
