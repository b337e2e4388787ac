"""The contract with tools of other makers: AsyncAPI's parser, a TypeScript backend, kcat."""

import json
import shutil
from pathlib import Path

import pytest
from support.daemon import ROOT
from support.examples import bridge, example, run

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs/asyncapi.yaml"
COMPILER = {
    "compilerOptions": {
        "strict": True, "module": "nodenext", "target": "es2022", "types": ["node"], "skipLibCheck": True,
    },
    "files": ["example.ts"],
}  # fmt: skip


async def validate(document: Path) -> str:
    return await run(["node", str(HERE / "validate.mjs"), str(document)], folder=HERE)


async def test_the_asyncapi_document_is_valid() -> None:
    assert (await validate(DOCUMENT)).startswith("valid: 7 channels, ")


async def test_a_spoilt_one_is_not(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    spoilt = tmp_path / "asyncapi.yaml"
    spoilt.write_text(text.replace("action: send", "action: shout", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"operations\.publishTicks\.action: .*\(asyncapi-"):
        await validate(spoilt)


async def test_the_typescript_example_gets_its_signal_filled(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (tmp_path / "tsconfig.json").write_text(json.dumps(COMPILER), encoding="utf-8")
    async with bridge(tmp_path) as bootstrap:
        (tmp_path / "example.ts").write_text(example("typescript", bootstrap), encoding="utf-8")
        await run(["node", "node_modules/typescript/bin/tsc", "--project", "tsconfig.json"], folder=tmp_path)
        said = await run(["node", "example.js"], folder=tmp_path)
    assert "tick_data {" in said
    assert "status: 'filled'" in said[said.index("order_result {") :]


async def test_the_kcat_example_gets_its_signal_filled(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    async with bridge(tmp_path) as bootstrap:
        read, sent, told = example("bash", bootstrap).split("\n\n")
        ticks = await run([bash, "-c", read], folder=tmp_path)
        assert [line.split()[0] for line in ticks.splitlines()] == ["EURUSD"] * 5
        await run([bash, "-c", sent], folder=tmp_path)
        events = ""
        while '"signal_id":"kcat-1"' not in events:  # the test's own time limit ends it
            events = await run([bash, "-c", told], folder=tmp_path)
    [result] = [line for line in events.splitlines() if '"signal_id":"kcat-1"' in line and "order_result" in line]
    assert '"status":"filled"' in result
