// What is written to stderr while this lives.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

namespace d2export::tests {

class StderrText {
 public:
    StderrText() : file_(std::tmpfile()), before_(dup(STDERR_FILENO)) {
        dup2(fileno(file_), STDERR_FILENO);
    }
    ~StderrText() {
        std::fflush(stderr);
        dup2(before_, STDERR_FILENO);
        close(before_);
        std::fclose(file_);
    }
    StderrText(const StderrText&) = delete;
    StderrText& operator=(const StderrText&) = delete;

    std::string text() const {
        std::fflush(stderr);
        std::rewind(file_);
        std::string text;
        for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) {
            text += static_cast<char>(c);
        }
        return text;
    }

 private:
    std::FILE* file_;
    int before_;
};

}  // namespace d2export::tests
