from aaformer_lit.engine.estimate import drawn_images, in_words, is_emulated


def test_an_epoch_draws_what_the_trainer_lets_it() -> None:
    assert drawn_images(12_936, 32, 1.0) == drawn_images(12_936, 32, None) == 12_936
    assert drawn_images(12_936, 32, 50) == 1_600
    assert drawn_images(12_936, 32, 0.5) == 6_468
    assert drawn_images(100, 32, 50) == 100  # there are not so many batches


def test_hours_in_words() -> None:
    words = [in_words(hours) for hours in (0.001, 0.05, 1.6, 47, 49)]
    assert words == ["1 minute", "3 minutes", "2 hours", "47 hours", "2 days"]


def test_bf16_is_emulated_where_the_cpu_lacks_it() -> None:
    assert is_emulated("bf16-mixed", "AVX2")
    assert is_emulated("bf16-true", "NO AVX")
    assert not is_emulated("32-true", "AVX2")
    assert not is_emulated("bf16-mixed", "AVX512")
