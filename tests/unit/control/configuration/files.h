#pragma once

#include <filesystem>
#include <string>

#include "tests/certificates.h"

namespace sallyport::configuration {

/// A directory with every certificate, key and included file that the configurations of these tests name.
class Files {
 public:
    Files();
    /// Copies a configuration to where the files are.
    [[nodiscard]] std::filesystem::path place(const std::filesystem::path& configuration) const;
    [[nodiscard]] std::filesystem::path write(const std::string& name, const std::string& text) const {
        return directory_.write(name, text);
    }
    [[nodiscard]] const std::filesystem::path& path() const { return directory_.path(); }

 private:
    test::TemporaryDirectory directory_;
};

}  // namespace sallyport::configuration
