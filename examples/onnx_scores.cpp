// Score a ROOT file with an exported model, from C++: what onnx_scores.py does.
//
// The model is that of sample_data/train.toml, as `tracksets export` writes it. Prints the number
// and the score of each event.
//
// Build it against ROOT and ONNX Runtime 1.15 or newer, and run it:
//
//   g++ -O2 -std=c++17 examples/onnx_scores.cpp -o onnx_scores $(root-config --cflags --libs)
//       -I$ONNXRUNTIME/include -L$ONNXRUNTIME/lib -lonnxruntime
//   ./onnx_scores model.onnx sample_data/events.root

#include <TFile.h>
#include <TTreeReader.h>
#include <TTreeReaderArray.h>
#include <TTreeReaderValue.h>
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

// Events at a time, some 3,000 tracks: what the network makes of them fits the cache.
constexpr std::size_t batch = 50;
constexpr std::int64_t n_feature = 6;

// As the metadata of the model has it. What main() computes must be this, in this order.
const std::array<std::string, 3> expected{
    R"json("features": ["log(pt)", "eta", "cos(phi)", "sin(phi)", "charge", "d0/d0_err"])json",
    R"json("select": "pt > 0.5")json", R"json("event": {"features": ["PV_z"])json"};

// Flat inputs of some events: the tracks of all of them, one after the other.
struct Inputs {
  std::vector<float> tracks;
  std::vector<std::int64_t> counts;
  std::vector<float> event;
  std::vector<unsigned long long> numbers;
};

// Refuse a model that wants to be fed with something else.
void check(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto metadata = session.GetModelMetadata();
  const auto text = metadata.LookupCustomMetadataMapAllocated("tracksets", allocator);
  const std::string about = text ? text.get() : "";
  for (const auto& wanted : expected)
    if (about.find(wanted) == std::string::npos)
      throw std::runtime_error("this program has " + wanted + ", but the model has " + about);
}

void score(Ort::Session& session, Inputs& inputs) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  // A tensor on the memory of a vector; nothing is copied.
  const auto tensor = [&memory](auto& values, const std::vector<std::int64_t>& shape) {
    return Ort::Value::CreateTensor(memory, values.data(), values.size(), shape.data(),
                                    shape.size());
  };
  const auto n_event = static_cast<std::int64_t>(inputs.counts.size());
  const auto n_track = static_cast<std::int64_t>(inputs.tracks.size()) / n_feature;
  const std::array<const char*, 3> names{"tracks.Track", "counts.Track", "event"};
  const std::array<Ort::Value, 3> values{tensor(inputs.tracks, {n_track, n_feature}),
                                         tensor(inputs.counts, {n_event}),
                                         tensor(inputs.event, {n_event, 1})};
  const char* output = "scores";
  const auto results =
      session.Run(Ort::RunOptions{}, names.data(), values.data(), values.size(), &output, 1);
  const float* scores = results.front().GetTensorData<float>();
  for (std::size_t i = 0; i < inputs.numbers.size(); ++i)
    std::printf("%llu %.9g\n", inputs.numbers[i], scores[i]);
  inputs = {};
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: onnx_scores model.onnx file.root");
  Ort::Env environment{ORT_LOGGING_LEVEL_WARNING};
  Ort::Session session{environment, argv[1], Ort::SessionOptions{}};
  check(session);

  TFile file{argv[2]};
  if (file.IsZombie()) throw std::runtime_error(std::string{"cannot open "} + argv[2]);
  TTreeReader reader{"Events", &file};
  TTreeReaderValue<ULong64_t> number{reader, "event"};
  TTreeReaderValue<float> pv_z{reader, "PV_z"};
  TTreeReaderArray<float> pt{reader, "Track_pt"}, eta{reader, "Track_eta"};
  TTreeReaderArray<float> phi{reader, "Track_phi"};
  TTreeReaderArray<float> d0{reader, "Track_d0"}, d0_err{reader, "Track_d0_err"};
  TTreeReaderArray<int> charge{reader, "Track_charge"};

  Inputs inputs;
  while (reader.Next()) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < pt.GetSize(); ++i) {
      if (!(pt[i] > 0.5)) continue;
      for (const float feature : {std::log(pt[i]), eta[i], std::cos(phi[i]), std::sin(phi[i]),
                                  static_cast<float>(charge[i]), d0[i] / d0_err[i]})
        inputs.tracks.push_back(feature);
      ++count;
    }
    inputs.counts.push_back(count);
    inputs.event.push_back(*pv_z);
    inputs.numbers.push_back(*number);
    if (inputs.counts.size() == batch) score(session, inputs);
  }
  if (!inputs.counts.empty()) score(session, inputs);
  if (reader.GetEntryStatus() != TTreeReader::kEntryBeyondEnd)
    throw std::runtime_error("could not read all events");
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
