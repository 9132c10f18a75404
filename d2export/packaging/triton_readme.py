"""The page in a model repository: how to serve it, and how to ask it."""

from __future__ import annotations

from d2export.bundle.manifest import Manifest
from d2export.packaging.triton_choices import Settled

SERVE = """\
# {name}

Made by `d2export package`. In this folder:

```
tritonserver --model-repository=$PWD/models{options}
```

{needs}
"""
ASK_VLM = """\
`{name}` answers in pieces as they are written. A picture is a file's bytes (gRPC) or a data URI:

```
echo "{{\\"prompt\\": \\"What is in the picture?\\", \\"max_new_tokens\\": 64, \\"image\\": \\
  [\\"data:image/jpeg;base64,$(base64 -w0 photo.jpg)\\"]}}" |
  curl -sN localhost:8000/v2/models/{name}/generate_stream -d @-
```

The last piece has `finish` (`stop` or `length`), `tokens`, and for each picture which visual tokens
were kept: `kept_indices`, `kept_lengths`. `{name}_vision` and {decoders} can also be asked by
themselves; their inputs and outputs are those of docs/bundle.md, keys and values among them.
"""
ASK_VISION = """\
`{name}` takes {inputs} (a file's bytes, or a data URI) and answers {outputs}, as `{name}_vision`
does, which takes tiles: docs/bundle.md says what its inputs are.
"""


def readme(manifest: Manifest, chosen: Settled, tensorrt: str | None, plugin: str | None) -> str:
    """The page.

    Args:
        tensorrt: version that built the engines; None without engines.
        plugin: of the engines, relative to the page.
    """
    options = f" \\\n  --backend-config=tensorrt,plugins=$PWD/{plugin}" if plugin else ""
    needs = ["Triton's Python needs `pip install 'd2export[text]'`."]
    if chosen.backend == "python":
        needs = ["Triton's Python needs `pip install 'd2export[ort,text]'`; it runs the graphs."]
    if chosen.backend == "tensorrt":
        needs.append(f"The engines are for TensorRT {tensorrt} and the GPU they were built on.")
    if plugin:
        needs.append(
            "A server without the option `plugins` takes LD_PRELOAD with "
            "libd2export_plugin_register.so instead."
        )
    if chosen.custom_op is not None:
        needs.append(f"ONNX Runtime opens {chosen.custom_op}: put the op's library there.")
    if manifest.scope == "vlm":
        several = [f"`{chosen.name}_decoder_gpu{gpu}`" for gpu in chosen.gpus]
        decoders = " and ".join(several) or f"`{chosen.name}_decoder`"
        ask = ASK_VLM.format(name=chosen.name, decoders=decoders)
    else:
        prompt = " and `prompt`" if manifest.plan.importance == "text" else ""
        outputs = ", ".join(f"`{value.name}`" for value in manifest.graphs.vision.outputs)
        ask = ASK_VISION.format(name=chosen.name, inputs=f"`image`{prompt}", outputs=outputs)
    serve = SERVE.format(name=chosen.name, options=options, needs="\n".join(needs))
    return f"{serve}\n{ask}"
