from support.fake_bridge_port import gateway


async def test_the_whole_service_in_one_document() -> None:
    async with gateway(allow_connect=True) as client:
        client.port.measured = {"mt5_bridge_ticks_published_total": [((), 7)]}
        client.port.told["channels"]["backend"] = "connecting"
        await client.ask("GET", "/account")
        await client.ask("GET", "/account")
        told = await client.ask("GET", "/status")
        assert (told["success"], told["service"], told["status"]) == (True, "mt5-bridge", "ok")
        assert (told["halt"], told["halt_detail"], told["account"]) == ("active", {"state": "active"}, "1001")
        states = {name: part["status"] for name, part in told["components"].items()}
        assert states == {
            "terminal": "connected",
            "backend": "connecting",
            "journal": "ok",
            "gateway": "ok",
            "websocket": "healthy",
            "bridge": "ok",
        }
        assert told["cache"].keys() >= {"account", "positions", "symbols", "ticks"}
        assert all(tier.keys() == {"hits", "misses", "hit_rate", "entries", "ttl_s"} for tier in told["cache"].values())
        assert told["connections"] == {
            "websocket": 0,
            "websocket_max": 100,
            "http_in_flight": 1,
            "backend": "connecting",
        }
        features = told["features"]
        switched = ("trading", "connect", "tokens", "tls", "bars", "simulation")
        assert [features[name] for name in switched] == [True, True, True, False, False, False]
        assert told["performance"]["ticks"]["published"] == 7
        assert told["bridge"] == client.port.told


async def test_what_fails_is_named() -> None:
    async with gateway() as client:
        client.port.told |= {"status": "not_ready", "detail": "the journal cannot be written", "journal_healthy": False}
        told = await client.ask("GET", "/status")
        assert told["components"]["journal"] == {"status": "failing", "detail": None}
        assert told["components"]["bridge"] == {"status": "not_ready", "detail": "the journal cannot be written"}
