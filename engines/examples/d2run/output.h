// An answer as a program reads it.
#pragma once

#include <d2export/model.h>

#include <ostream>

namespace d2run {

// One line: text, tokens, finish, kept, tiles, prompt_tokens, seconds.
void print_json(std::ostream& out, const d2export::runtime::Answer& answer);

// Times and counts for a person.
void print_summary(std::ostream& out, const d2export::runtime::Answer& answer);

}  // namespace d2run
