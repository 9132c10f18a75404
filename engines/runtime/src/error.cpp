#include <d2export/error.h>

namespace d2export::runtime {

Error::Error(Blame blame, const std::string& problem, const std::string& hint)
    : std::runtime_error(problem), blame_(blame), hint_(hint) {}

Error::~Error() = default;

Error bad_input(const std::string& problem, const std::string& hint) {
    return {Blame::kInput, problem, hint};
}

Error misfit(const std::string& problem, const std::string& hint) {
    return {Blame::kMachine, problem, hint};
}

}  // namespace d2export::runtime
