"""What methods share that rebuild an encoder's levels patch by patch: AMI-Net, TFA-Net, ST-MAE. No method itself."""
