// Builds, runs and times TensorRT engines with no more than TensorRT's own libraries.

#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "builder.h"
#include "files.h"
#include "measure.h"
#include "plan.h"
#include "session.h"

namespace d2export::tool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const Option kPlugin{"--plugin", "FILE", "the plugin's library"};
const Option kLibraries{"--libraries", "FOLDER",
                        "where TensorRT's libraries are; else the system looks for them"};
const Option kVerbose{"--verbose", "", "show TensorRT's warnings"};
const Option kProfile{"--profile", "N", "index of the optimization profile, default 0"};
const Option kInput{"--input", "NAME=FILE.npy", "an input; once for each", true};
const Option kHostCode{"--allow-host-code", "",
                       "run the plugin inside the engine: only for engines you trust"};

const Command kBuild{"build",
                     {"PLAN.json", "ONNX"},
                     {{"-o", "ENGINE", "the file to write", true},
                      {"--graph", "NAME", "whose plan; else the one for ONNX"},
                      kPlugin,
                      kLibraries,
                      kVerbose},
                     "build the engine of a plan that d2export wrote"};
const Command kRun{"run",
                   {"ENGINE"},
                   {kInput,
                    {"-o", "FOLDER", "where each output goes, as NAME.npy", true},
                    kProfile,
                    kPlugin,
                    kHostCode,
                    kLibraries,
                    kVerbose},
                   "run an engine once"};
const Command kBench{"bench",
                     {"ENGINE"},
                     {kInput,
                      kProfile,
                      {"--warm-up", "N", "runs before those that count, default 20"},
                      {"--runs", "N", "runs that count, default 100"},
                      {"--layers", "", "time each layer, too"},
                      kPlugin,
                      kHostCode,
                      kLibraries,
                      kVerbose},
                     "time an engine; JSON on standard output"};

std::optional<fs::path> path_of(const Arguments& arguments, const std::string& option) {
    const std::optional<std::string> text = arguments.value(option);
    return text ? std::optional<fs::path>(*text) : std::nullopt;
}

std::map<std::string, Array> inputs_of(const Arguments& arguments) {
    std::map<std::string, Array> inputs;
    for (const std::string& word : arguments.values(kInput.name)) {
        const std::size_t at = word.find('=');
        if (at == 0 || at == std::string::npos) {
            throw usage("--input is '" + word + "', expected NAME=FILE.npy", kRun.usage());
        }
        const bool is_new =
            inputs.emplace(word.substr(0, at), read_npy(word.substr(at + 1))).second;
        if (!is_new) throw usage("input " + word.substr(0, at) + " is given twice", kRun.usage());
    }
    return inputs;
}

void run_build(const Arguments& arguments) {
    const fs::path onnx = arguments.positional(1);
    const Plan plan =
        choose_plan(read_plans(arguments.positional(0)), arguments.value("--graph"), onnx);
    const Libraries libraries(path_of(arguments, kLibraries.name));
    need_gpu();
    Log log(arguments.has(kVerbose.name));
    build(libraries, log, plan, onnx, *arguments.value("-o"), path_of(arguments, kPlugin.name));
    std::printf("%s: %s, %s, TensorRT %s\n", arguments.value("-o")->c_str(), plan.graph.c_str(),
                plan.precision.c_str(), text_of(libraries.version()).c_str());
}

// An engine with its inputs, as `run` and `bench` need it.
struct Opened {
    explicit Opened(const Arguments& arguments)
        : inputs(inputs_of(arguments)),
          engine(read_file(arguments.positional(0), "an engine")),
          libraries(path_of(arguments, kLibraries.name)),
          log(arguments.has(kVerbose.name)) {
        need_gpu();
        free_before = free_memory();
        if (const auto plugin = path_of(arguments, kPlugin.name)) {
            load_plugin(libraries, log, *plugin);
        }
        session = std::make_unique<Session>(libraries, log, engine, arguments.has(kHostCode.name),
                                            arguments.whole(kProfile.name, 0, 0));
        session->set_inputs(inputs);
    }

    std::map<std::string, Array> inputs;
    std::string engine;
    Libraries libraries;
    Log log;
    std::size_t free_before = 0;
    std::unique_ptr<Session> session;
};

void run_once(const Arguments& arguments) {
    const Opened opened(arguments);
    opened.session->enqueue();
    opened.session->stream().wait();
    for (const auto& [name, array] : opened.session->outputs()) {
        if (name.find('/') != std::string::npos) {
            throw usage("output '" + name + "' cannot be the name of a file",
                        "Export the graph with another name.");
        }
        const fs::path file = fs::path(*arguments.value("-o")) / (name + ".npy");
        write_npy(file, array);
        std::printf("%s %s %s\n", file.c_str(), array.descr.c_str(), text_of(array.shape).c_str());
    }
}

Json statistics(const std::vector<double>& milliseconds) {
    Json found;
    for (const int percent : {50, 90, 99}) {
        found["p" + std::to_string(percent)] = percentile(milliseconds, percent / 100.0);
    }
    return found;
}

Json both(const Times& times) {
    return {{"gpu_ms", statistics(times.gpu)}, {"host_ms", statistics(times.host)}};
}

// The same work as a CUDA graph; an engine that cannot be recorded says why.
Json graph_times(Session& session, std::int64_t warm_up, std::int64_t runs) {
    try {
        Graph graph(session.stream(), [&] { session.enqueue(); });
        return both(measure(
            session.stream(), [&] { graph.launch(session.stream()); }, warm_up, runs));
    } catch (const Failure& failure) {
        return {{"not_run", failure.what()}};
    }
}

void run_bench(const Arguments& arguments) {
    const std::int64_t warm_up = arguments.whole("--warm-up", 0, 20);
    const std::int64_t runs = arguments.whole("--runs", 1, 100);
    const Opened opened(arguments);
    Session& session = *opened.session;
    Json report{{"tensorrt", text_of(opened.libraries.version())},
                {"gpu", gpu_name()},
                {"profile", arguments.whole(kProfile.name, 0, 0)},
                {"warm_up", warm_up},
                {"runs", runs},
                {"stream", both(measure(
                               session.stream(), [&] { session.enqueue(); }, warm_up, runs))}};
    // TensorRT allocates nothing while it runs: this is the most there is.
    const std::size_t left = free_memory();
    report["device_memory_bytes"] = opened.free_before - std::min(left, opened.free_before);
    report["activation_bytes"] = session.activation_bytes();
    report["graph"] = graph_times(session, warm_up, runs);
    if (arguments.has("--layers")) {
        Json layers = Json::array();
        for (const auto& [layer, milliseconds] : layer_times(session, warm_up, runs)) {
            layers.push_back({{"name", layer}, {"ms", milliseconds}});
        }
        report["layers"] = layers;
    }
    std::printf("%s\n", report.dump(2).c_str());
}

struct Action {
    const Command& command;
    std::function<void(const Arguments&)> act;
};

const Action kActions[] = {{kBuild, run_build}, {kRun, run_once}, {kBench, run_bench}};

std::string overview() {
    std::string text;
    for (const Action& action : kActions) {
        text += action.command.usage() + "\n    " + action.command.help + "\n";
        for (const Option& option : action.command.options) {
            std::string left = option.name + (option.value.empty() ? "" : " " + option.value);
            left.resize(std::max<std::size_t>(left.size(), 24), ' ');
            text += "    " + left + " " + option.help + "\n";
        }
    }
    return text +
           "exit codes: 0 done, 2 wrong usage or a bad file, 3 this machine or a version "
           "on it does not fit\n";
}

void act(const std::vector<std::string>& words) {
    const std::string command = words.empty() ? "" : words[0];
    if (command == "--help" || command == "-h") {
        std::printf("%s", overview().c_str());
        return;
    }
    if (command == "--version") {
        std::printf("d2export-engine %s for TensorRT %s\n", D2EXPORT_VERSION,
                    text_of(kHeaders).c_str());
        return;
    }
    for (const Action& action : kActions) {
        if (action.command.name == command) {
            action.act(Arguments(action.command, {words.begin() + 1, words.end()}));
            return;
        }
    }
    throw usage(command.empty() ? "a command is missing" : "there is no command '" + command + "'",
                "Pass build, run or bench; --help shows all of it.");
}

}  // namespace
}  // namespace d2export::tool

int main(int count, char** words) {
    using namespace d2export::tool;
    try {
        act({words + 1, words + count});
        return static_cast<int>(Exit::kOk);
    } catch (const Failure& failure) {
        std::fprintf(stderr, "d2export-engine: %s\n  %s\n", failure.what(), failure.hint().c_str());
        return static_cast<int>(failure.code());
    }
}
