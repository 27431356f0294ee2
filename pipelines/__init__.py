"""The pipeline: one thin module a stage of dvc.yaml, each the owner of its artefact's writer and reader."""
